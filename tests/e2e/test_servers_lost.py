"""Rollout servers that end while others need them: training and evaluation wait for the next ones, and go on right."""

import signal
from typing import Any

import pytest

from tests.cluster.node import NodeCluster
from tests.cluster.waiting import eventually
from tests.e2e.runs import (
    SERVED,
    SERVED_ARM,
    component_of,
    manifest,
    metrics_of,
    pods_of,
    send,
    start,
    status_of,
    succeeds,
)

STEPS = 8


@pytest.mark.full
def test_training_and_evaluation_outlive_their_servers(node: NodeCluster, team: str) -> None:
    short = {"maxSteps": STEPS, "maskTruncated": False}
    folder = start(node, team, manifest("outlives", training=short, evaluation={"perplexity": False}, **SERVED))

    def steps() -> list[dict[str, Any]]:
        return metrics_of(folder, 1, SERVED_ARM)

    # Before the first step: vLLM's own processes, whose container starts anew in the same pod.
    first = eventually(lambda: server(node, team), within=240)
    assert first
    assert not steps()
    eventually(lambda: restarts(server(node, team)) or end_engine(node, team, first), within=120, every=1)

    # Amid the steps: the pod, with all adapters that it held.
    eventually(lambda: len(steps()) > 2, within=300)
    remove(node, team, first)
    assert len(steps()) < STEPS - 1

    # In evaluation: the pod that came in its place.
    eventually(lambda: component_of(status_of(node, team, "outlives"), SERVED_ARM)["phase"] == "Evaluating", within=300)
    second = eventually(lambda: server(node, team), within=60)
    assert second
    assert second["metadata"]["uid"] != first["metadata"]["uid"]
    remove(node, team, second)

    component = component_of(succeeds(node, team, "outlives"), SERVED_ARM)
    assert (component["attempt"], component["failedAttempts"]) == (1, 0), component
    made = steps()
    assert [step["step"] for step in made] == list(range(1, STEPS + 1))
    assert all(step["logp_difference"] < 1e-3 for step in made), made
    # At the end of the step in which a server was lost, the next one holds nothing yet: told as lag, and no other time.
    assert sum(step["policy_lag"] > 0 for step in made) <= 1, made


def server(node: NodeCluster, namespace: str) -> dict[str, Any] | None:
    """The component's rollout pod that is not about to go, once its vLLM runs."""
    for pod in pods_of(node, namespace, "rollout"):
        states = pod["status"].get("containerStatuses", ())
        runs = any(state["name"] == "vllm" and "running" in state["state"] for state in states)
        if (
            runs
            and pod["metadata"]["labels"].get("unisd.dev/arm") == SERVED_ARM
            and "deletionTimestamp" not in pod["metadata"]
        ):
            return pod
    return None


def restarts(pod: dict[str, Any] | None) -> int:
    """How often vLLM was started anew in a pod."""
    states = pod["status"]["containerStatuses"] if pod else ()
    return sum(int(state["restartCount"]) for state in states if state["name"] == "vllm")


def end_engine(node: NodeCluster, namespace: str, pod: dict[str, Any]) -> None:
    """Ends the processes that vLLM's first one has launched, if it has launched any yet."""
    send(node, namespace, pod["metadata"]["name"], signal.SIGKILL, container="vllm")


def remove(node: NodeCluster, namespace: str, pod: dict[str, Any]) -> None:
    """Takes a pod away at once, as when its node is lost."""
    node.kubectl("delete", "pod", pod["metadata"]["name"], "-n", namespace, "--grace-period=0", "--force")
