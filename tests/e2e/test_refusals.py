"""Rules of a namespace that keep a run's pods out, on a real node: the run waits, says why, and goes on without them."""

from typing import Any

from tests.cluster.node import NodeCluster
from tests.cluster.waiting import eventually
from tests.e2e.runs import SMALL, manifest, start, status_of, succeeds, trainers

HOST = {"name": "host", "hostPath": {"path": "/tmp"}}


def rule(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    """A rule of a namespace."""
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": "rule"}, "spec": spec}


def test_a_run_waits_for_whoever_keeps_its_pods_out(node: NodeCluster, team: str) -> None:
    # One after the other: preparation, training and evaluation each meet a rule of their own.
    trainer = {"numNodes": 1, "resourcesPerNode": SMALL, "pod": {"volumes": [HOST]}}
    node.apply(rule("ResourceQuota", {"hard": {"pods": "0"}}), namespace=team)
    start(node, team, manifest("kept-out", training={"maxSteps": 20}, trainer=trainer))

    assert "exceeded quota: rule, requested: pods=1" in waits(node, team, "QuotaExceeded")
    node.kubectl("delete", "resourcequota", "rule", "-n", team)

    told = waits(node, team, "Forbidden")
    assert 'violates PodSecurity "restricted' in told
    assert 'volume "host" uses restricted volume type "hostPath"' in told
    pod_security(node, team, "privileged")
    eventually(lambda: trainers(node, team), within=240)
    limits = rule("LimitRange", {"limits": [{"type": "Container", "max": {"memory": "256Mi"}}]})
    node.apply(limits, namespace=team)

    assert "must be less than or equal to memory limit of 256Mi" in waits(node, team, "Forbidden", besides=told)
    node.kubectl("delete", "limitrange", "rule", "-n", team)

    status = succeeds(node, team, "kept-out")
    parts = [*status["stages"], *status["components"]]
    assert [(part["attempt"], part["failedAttempts"], part.get("failure")) for part in parts] == [(1, 0, None)] * 3


def waits(node: NodeCluster, namespace: str, reason: str, besides: str = "") -> str:
    """What the run says it waits for, once the reason is this one and the message is not `besides`."""

    def told() -> str | None:
        status = status_of(node, namespace, "kept-out")
        assert status.get("reason") == reason, status.get("reason")
        parts = [*status["stages"], *status["components"]]
        found = [part["waiting"]["message"] for part in parts if part.get("waiting", {}).get("reason") == reason]
        return next((message for message in found if message != besides), None)

    found = eventually(told, within=240, every=1)
    assert found
    return found


def pod_security(node: NodeCluster, namespace: str, level: str) -> None:
    """Sets what the namespace enforces."""
    label = f"pod-security.kubernetes.io/enforce={level}"
    node.kubectl("label", "namespace", namespace, label, "--overwrite")
