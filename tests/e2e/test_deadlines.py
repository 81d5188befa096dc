"""Time that is over, on a real node: deadlines of components and pods, and what is left of a run that has ended."""

import json
from typing import Any

from tests.cluster.node import NodeCluster
from tests.cluster.waiting import eventually
from tests.e2e.runs import component_of, fails, manifest, start, status_of, steps_of, trains

CHILDREN = "jobs,pods,deployments,services,configmaps,networkpolicies"
CLAIMS = "persistentvolumeclaims"


def test_a_run_past_its_deadline_leaves_what_its_storage_policy_says(node: NodeCluster, team: str) -> None:
    # Two runs: one ends for an image that is not there and keeps its claim, the other one by its deadline.
    broken = {"image": "unisd.test/nothing:1"}
    start(node, team, manifest("kept", preparation=broken, backoffLimit=0, ttlSecondsAfterFinished=1))
    folder = start(node, team, manifest("late", training={"maxSteps": 100_000}, storage={"policy": "Delete"}))
    reached = trains(folder)
    change(node, team, "late", activeDeadlineSeconds=1)
    status = fails(node, team, "late")
    failure = component_of(status)["failure"]
    assert (status["reason"], failure["reason"], failure["attempt"]) == ("DeadlineExceeded", "DeadlineExceeded", 1)
    assert "spec.activeDeadlineSeconds of 1" in failure["message"]
    eventually(lambda: not running(node, team, "late"), within=300)
    assert "Job late-prepare-1" in children(node, team, "late"), "kept for its log until the TTL"

    change(node, team, "late", ttlSecondsAfterFinished=1)
    eventually(lambda: not children(node, team, "late", f"{CHILDREN},{CLAIMS}"))
    assert max(steps_of(folder, 1)) >= reached, "the volume behind the claim is the administrator's"
    eventually(lambda: not children(node, team, "kept"), within=240)
    assert children(node, team, "kept", CLAIMS) == ["PersistentVolumeClaim kept"]
    for name in ("late", "kept"):
        stays_ended(node, team, name)
    node.kubectl("delete", "sdr", "kept", "-n", team)
    assert node.json("get", CLAIMS, "kept", "-n", team)["status"]["phase"] == "Bound"


def test_a_pod_that_does_not_start_says_why_and_fails_in_time(node: NodeCluster, team: str) -> None:
    missing = {"name": "extra", "configMap": {"name": "absent"}}
    pod = {"volumes": [missing], "volumeMounts": [{"name": "extra", "mountPath": "/extra"}]}
    start(node, team, manifest("stuck", preparation={"pod": pod}, preRunningDeadlineSeconds=60))

    waiting = eventually(lambda: (told := preparation(node, team).get("waiting")) and "absent" in str(told) and told)
    assert waiting
    assert waiting["reason"] == "VolumeNotReady", waiting
    assert 'configmap "absent" not found' in waiting["message"]
    eventually(lambda: preparation(node, team).get("failure"), within=240)
    stage = preparation(node, team)
    assert (stage["failure"]["reason"], stage["failedAttempts"]) == ("DeadlineExceeded", 1)
    assert 'configmap "absent" not found' in stage["failure"]["message"]

    # With what it waits for, the next attempt goes on.
    node.kubectl("create", "configmap", "absent", "-n", team)
    eventually(lambda: preparation(node, team)["phase"] == "Succeeded", within=300, every=1)
    assert preparation(node, team)["attempt"] > 1


def change(node: NodeCluster, namespace: str, name: str, **spec: Any) -> None:
    """Changes what may be changed of a run that lives."""
    node.kubectl("patch", "sdr", name, "-n", namespace, "--type=merge", "-p", json.dumps({"spec": spec}))


def children(node: NodeCluster, namespace: str, name: str, kinds: str = CHILDREN) -> list[str]:
    """What the operator has made for a run and is still there."""
    found = node.json("get", kinds, "-n", namespace, "-l", f"unisd.dev/run={name}")["items"]
    return [f"{one['kind']} {one['metadata']['name']}" for one in found]


def running(node: NodeCluster, namespace: str, name: str) -> list[str]:
    """Pods of a run that have not ended."""
    pods = node.json("get", "pods", "-n", namespace, "-l", f"unisd.dev/run={name}")["items"]
    return [pod["metadata"]["name"] for pod in pods if pod["status"]["phase"] not in ("Succeeded", "Failed")]


def stays_ended(node: NodeCluster, namespace: str, name: str) -> None:
    """A run whose children have gone never runs again, whatever is changed of it."""
    before = status_of(node, namespace, name)
    change(node, namespace, name, backoffLimit=5)
    eventually(lambda: status_of(node, namespace, name)["observedGeneration"] > before["observedGeneration"])
    assert status_of(node, namespace, name)["phase"] == "Failed"
    assert children(node, namespace, name) == []


def preparation(node: NodeCluster, namespace: str) -> dict[str, Any]:
    """The first stage of run `stuck`."""
    found: dict[str, Any] = next(iter(status_of(node, namespace, "stuck").get("stages", [])), {})
    return found
