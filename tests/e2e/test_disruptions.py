"""What befalls a run when its node is emptied or does not answer, on a real node. Faults inside pods are elsewhere."""

from collections.abc import Iterator

import pytest

from tests.cluster.cluster import KubectlError
from tests.cluster.node import NODE, NodeCluster
from tests.cluster.waiting import eventually
from tests.e2e.installation import settings
from tests.e2e.runs import component_of, manifest, start, status_of, steps_of, taken_over, trainers, trains

CHECKPOINT_EVERY = 5
ENDLESS = {"maxSteps": 100_000}


@pytest.fixture(autouse=True)
def in_use(node: NodeCluster) -> Iterator[None]:
    """The node takes pods again, however a test ends."""
    yield
    node.kubectl("uncordon", NODE)


def drain(node: NodeCluster, *options: str) -> None:
    """Empties the node as an administrator does. Raises `KubectlError` if a pod may not go."""
    node.kubectl("drain", NODE, "--ignore-daemonsets", "--delete-emptydir-data", "--force", *options)


@pytest.mark.full
def test_a_drain_interrupts_training_unless_a_budget_forbids_it(node: NodeCluster, team: str) -> None:
    folder = start(node, team, manifest("drained", training=ENDLESS))
    reached = trains(folder)

    # Every pod leaves, the operator's too: the trainers write a checkpoint first, and no attempt is counted.
    drain(node, "--timeout=180s")
    written = max(steps_of(folder, 1))
    assert written >= reached
    node.kubectl("uncordon", NODE)
    trains(folder, attempt=2, beyond=written)
    assert taken_over(folder, 2) == written
    component = component_of(status_of(node, team, "drained"))
    assert (component["failure"]["reason"], component["failure"]["attempt"]) == ("Evicted", 1), component
    assert (component["attempt"], component["failedAttempts"]) == (2, 0)

    with settings(node, podDisruptionBudgets={"enabled": True}):
        eventually(lambda: budget_holds(node, team), within=60)
        before = trainers(node, team)
        with pytest.raises(KubectlError, match="would violate the pod's disruption budget"):
            drain(node, "--pod-selector=unisd.dev/run=drained", "--timeout=10s")
        node.kubectl("uncordon", NODE)
        assert trainers(node, team) == before
        trains(folder, attempt=2, beyond=max(steps_of(folder, 2)))
        assert component_of(status_of(node, team, "drained"))["attempt"] == 2


def budget_holds(node: NodeCluster, namespace: str) -> bool:
    """Whether Kubernetes knows that no trainer may go."""
    found = node.json("get", "poddisruptionbudgets", "-n", namespace)["items"]
    return any(one.get("status", {}).get("currentHealthy") == 2 == one["spec"]["minAvailable"] for one in found)


@pytest.fixture
def other_node(node: NodeCluster) -> Iterator[None]:
    """One that answers and takes no pods: where none answers, Kubernetes takes the fault for its own and deletes none."""
    node.add_fake_node("other")
    node.kubectl("cordon", "other")
    yield
    node.kubectl("delete", "node", "other")


@pytest.mark.full
@pytest.mark.usefixtures("other_node")
def test_a_node_that_does_not_answer(node: NodeCluster, team: str) -> None:
    quick = {"terminationGracePeriodSeconds": 5}
    with settings(node, forceDeleteLostPods=True):
        folder = start(node, team, manifest("lost", training=ENDLESS, trainer={"pod": quick}))
        reached = trains(folder, beyond=2 * CHECKPOINT_EVERY)
        before = set(trainers(node, team).values())
        with node.lost():
            # Taken for dead after 50 s (the node) and 30 s (its pods); deleted by force after their grace and 30 s more.
            component = eventually(lambda: failed(node, team, "lost"), within=240, every=1)
            assert component["failure"]["reason"] == "NodeLost", component
            assert component["failure"]["node"] == NODE
            assert (component["attempt"], component["failedAttempts"]) == (2, 0)
            eventually(lambda: not before & set(trainers(node, team).values()), within=120, every=1)
            eventually(lambda: "untolerated taint" in waits_for(node, team, "lost", "Unschedulable"), within=60)
            # Nobody could stop the old trainers: they go on, in the folder of their own attempt.
            alive = max(steps_of(folder, 1))
            trains(folder, attempt=1, beyond=alive)
            assert steps_of(folder, 2) == []
        trains(folder, attempt=2, beyond=alive)
        assert taken_over(folder, 2) >= reached - CHECKPOINT_EVERY
        steps = steps_of(folder, 2)
        assert steps == sorted(set(steps)), "no step was made twice"
        assert component_of(status_of(node, team, "lost"))["attempt"] == 2


def failed(node: NodeCluster, namespace: str, name: str) -> dict[str, object]:
    """The component once a failure is told of it; empty before."""
    component = component_of(status_of(node, namespace, name))
    return component if "failure" in component else {}


def waits_for(node: NodeCluster, namespace: str, name: str, reason: str) -> str:
    """What the component says while it waits for this; empty while it does not."""
    waiting = component_of(status_of(node, namespace, name)).get("waiting", {})
    return str(waiting.get("message", "")) if waiting.get("reason") == reason else ""
