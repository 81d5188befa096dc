"""Real faults on a real node, each told by its reason."""

from typing import Any

import pytest

from tests.cluster.node import NodeCluster
from tests.cluster.waiting import eventually
from tests.e2e.runs import component_of, manifest, start, status_of


def failure_of(node: NodeCluster, namespace: str, name: str) -> dict[str, Any]:
    """The first failure that the run tells, of a stage or of its component."""

    def failure() -> dict[str, Any] | None:
        status = status_of(node, namespace, name)
        parts = [*status.get("stages", []), component_of(status)]
        return next((part["failure"] for part in parts if part.get("failure")), None)

    found = eventually(failure, within=240, every=1)
    assert found
    return found


def test_an_image_that_is_not_there(node: NodeCluster, team: str) -> None:
    start(node, team, manifest("image", preparation={"image": "unisd.test/nothing:1"}))
    failure = failure_of(node, team, "image")
    assert failure["reason"] == "ImagePullBackOff"
    assert "unisd.test/nothing:1" in failure["message"]


def test_a_limit_of_memory(node: NodeCluster, team: str) -> None:
    limits = {"requests": {"cpu": "100m"}, "limits": {"memory": "150Mi"}}
    start(node, team, manifest("memory", backoffLimit=0, trainer={"numNodes": 1, "resourcesPerNode": limits}))
    failure = failure_of(node, team, "memory")
    assert (failure["reason"], failure["exitCode"], failure["node"]) == ("OOMKilled", 137, "node"), failure
    eventually(lambda: status_of(node, team, "memory")["phase"] == "Failed", within=60)


def test_rows_that_the_task_refuses(node: NodeCluster, team: str) -> None:
    start(node, team, manifest("rows"), rows='{"question": 7}\n')
    failure = failure_of(node, team, "rows")
    assert failure["reason"] == "BadInput", failure
    assert "question" in failure["message"]
    eventually(lambda: status_of(node, team, "rows")["phase"] == "Failed", within=60)


@pytest.mark.parametrize("reason", ["Unschedulable"])
def test_a_request_that_no_node_meets(node: NodeCluster, team: str, reason: str) -> None:
    start(node, team, manifest("huge", trainer={"resourcesPerNode": {"requests": {"memory": "4Ti"}}}))

    def waits() -> bool:
        waiting = component_of(status_of(node, team, "huge")).get("waiting", {})
        return waiting.get("reason") == reason and "Insufficient memory" in waiting["message"]

    eventually(waits, within=240, every=1)
