"""Training on a real node goes on after whatever interrupts it, from its newest checkpoint."""

import json
import signal

from tests.cluster.node import NodeCluster
from tests.e2e.installation import VALUES
from tests.e2e.runs import (
    ARM,
    component_of,
    manifest,
    send,
    start,
    status_of,
    steps_of,
    succeeds,
    suspend,
    taken_over,
    trainers,
    trains,
)
from tests.operator.charts.installation import install

CHECKPOINT_EVERY = 5


def test_training_goes_on_after_each_interruption(node: NodeCluster, team: str) -> None:
    folder = start(node, team, manifest("goes-on", training={"maxSteps": 100_000}))
    trains(folder)

    # An upgrade of the operator changes no pod.
    before = trainers(node, team)
    changed = {**VALUES, "settings": {**VALUES["settings"], "workers": 4}}
    install(node, "unisd-operator", changed)
    assert trainers(node, team) == before
    reached = trains(folder, beyond=CHECKPOINT_EVERY)

    # A process of one pod is killed: the attempt has failed, the next one goes on.
    killed = next(iter(trainers(node, team)))
    send(node, team, killed, signal.SIGKILL)
    trains(folder, attempt=2, beyond=reached)
    failure = component_of(status_of(node, team, "goes-on"))["failure"]
    assert failure["attempt"] == 1
    assert failure["reason"] in ("NonZeroExit", "NcclError"), "its own end, or what it was to the other, if seen first"
    assert taken_over(folder, 2) > reached - CHECKPOINT_EVERY

    # One of two pods is asked to leave its node: both write a checkpoint, and no attempt is counted.
    reached = max(steps_of(folder, 2))
    leaving = next(iter(trainers(node, team)))
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": leaving, "namespace": team}}
    path = f"/api/v1/namespaces/{team}/pods/{leaving}/eviction"
    node.kubectl("create", "--raw", path, "-f", "-", input=json.dumps(eviction))
    trains(folder, attempt=3, beyond=reached)
    assert taken_over(folder, 3) >= reached
    component = component_of(status_of(node, team, "goes-on"))
    assert (component["failure"]["reason"], component["failedAttempts"]) == ("Evicted", 1)


def test_a_suspended_run_holds_no_pod_and_goes_on(node: NodeCluster, team: str) -> None:
    folder = start(node, team, manifest("pauses"))
    reached = trains(folder)
    suspend(node, team, "pauses", True)

    written = max(steps_of(folder, 1))
    assert written >= reached
    suspend(node, team, "pauses", False)
    succeeds(node, team, "pauses")
    attempts = [folder for folder in folder.glob(f"runs/*/components/{ARM}/*") if folder.is_dir()]
    assert len(attempts) == 1
    steps = steps_of(folder, 1)
    assert steps == sorted(set(steps)), "no step was made twice"
