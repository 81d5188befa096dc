"""Real faults on a real node, each told by its reason."""

import pytest

from tests.cluster.node import NodeCluster
from tests.cluster.waiting import eventually
from tests.e2e.runs import component_of, fails, failure_of, manifest, start, status_of


def test_an_image_that_is_not_there(node: NodeCluster, team: str) -> None:
    start(node, team, manifest("image", preparation={"image": "unisd.test/nothing:1"}))
    failure = failure_of(node, team, "image")
    assert failure["reason"] == "ImagePullBackOff"
    assert "unisd.test/nothing:1" in failure["message"]


def test_a_secret_that_is_not_there(node: NodeCluster, team: str) -> None:
    start(node, team, manifest("secret", preparation={"pod": {"envFrom": [{"secretRef": {"name": "absent"}}]}}))
    failure = failure_of(node, team, "secret")
    assert failure["reason"] == "ConfigError", failure
    assert 'secret "absent" not found' in failure["message"]


def test_a_limit_of_memory_and_the_component_that_would_have_been_next(node: NodeCluster, team: str) -> None:
    limits = {"requests": {"cpu": "100m"}, "limits": {"memory": "150Mi"}}
    trainer = {"numNodes": 1, "resourcesPerNode": limits}
    both = [{"name": "sft", "preset": "sft"}, {"name": "next", "preset": "sft"}]
    once = {"backoffLimit": 0, "parallelism": 1, "failurePolicy": "FailFast"}
    start(node, team, manifest("memory", trainer=trainer, components=both, **once))
    status = fails(node, team, "memory")
    failure = component_of(status)["failure"]
    assert (failure["reason"], failure["exitCode"], failure["node"]) == ("OOMKilled", 137, "node"), failure
    assert component_of(status, "next-1")["failure"]["reason"] == "FailFast"


def test_rows_that_the_task_refuses(node: NodeCluster, team: str) -> None:
    start(node, team, manifest("rows"), rows='{"question": 7}\n')
    failure = failure_of(node, team, "rows")
    assert failure["reason"] == "BadInput", failure
    assert "question" in failure["message"]
    fails(node, team, "rows")


@pytest.mark.parametrize("reason", ["Unschedulable"])
def test_a_request_that_no_node_meets(node: NodeCluster, team: str, reason: str) -> None:
    start(node, team, manifest("huge", trainer={"resourcesPerNode": {"requests": {"memory": "4Ti"}}}))

    def waits() -> bool:
        waiting = component_of(status_of(node, team, "huge")).get("waiting", {})
        return waiting.get("reason") == reason and "Insufficient memory" in waiting["message"]

    eventually(waits, within=240, every=1)
