"""What the chart allows the operator, against what it asks the API server for: nothing denied, nothing unused."""

from typing import Any

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.waiting import eventually
from tests.operator.charts.installation import (
    ACCOUNT,
    NAMESPACE,
    denied,
    granted,
    install,
    operate,
    restarted,
    used,
)
from tests.operator.controller.harness import children, ends, manifest, pod, status
from tests.operator.queues.queues import add_queue, gpu_pods, queued_run, reaches, workload

SETTINGS = {"podDisruptionBudgets": {"enabled": True}, "retrySeconds": 0.5}
# Kueue's kinds are asked for only where Kueue is.
KUEUE = "kueue.x-k8s.io"


def _succeeds_and_is_cleared_away(cluster: Cluster, team: str) -> None:
    """Every stage, its children deleted by TTL and its claim with them."""
    cluster.apply(manifest("good", ttlSecondsAfterFinished=2, storage={"policy": "Delete"}), namespace=team)
    ends(cluster, team, "good")
    eventually(lambda: not children(cluster, team, "jobs,configmaps,secrets,persistentvolumeclaims"))


def _keeps_its_claim_on_failure(cluster: Cluster, team: str) -> None:
    """An owner of the claim, set once the run has succeeded."""
    cluster.apply(manifest("kept", storage={"policy": "RetainOnFailure"}), namespace=team)
    ends(cluster, team, "kept")
    eventually(lambda: "ownerReferences" in cluster.json("get", "pvc", "kept", "-n", team)["metadata"])


def _fails_twice(cluster: Cluster, team: str) -> None:
    """A log that is read, a retry, an Event that is told again."""
    fails = pod(None, **{"test.unisd.dev/fail-after": "0.2s", "test.unisd.dev/exit-code": "1"})
    cluster.apply(manifest("bad", trainer=fails, backoffLimit=1), namespace=team)
    ends(cluster, team, "bad", "Failed")


def _is_suspended_and_deleted(cluster: Cluster, team: str) -> None:
    """Rollout servers, trainer and all around them, taken away and made again."""
    cluster.apply(manifest("long", trains=None), namespace=team)
    eventually(lambda: len(_running(cluster, team)) >= 2)
    for value in ("true", "false"):
        suspend = f'{{"spec": {{"suspend": {value}}}}}'
        cluster.kubectl("patch", "sdr", "long", "-n", team, "--type=merge", "-p", suspend)
        eventually(lambda value=value: bool(_running(cluster, team)) is (value == "false"))
    cluster.kubectl("delete", "sdr", "long", "-n", team)


def _finds_a_foreign_claim(cluster: Cluster, team: str) -> None:
    requests = {"resources": {"requests": {"storage": "1Gi"}}, "accessModes": ["ReadWriteOnce"]}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "theirs"}, "spec": requests}
    cluster.apply(claim, manifest("theirs"), namespace=team)
    eventually(lambda: _stalled(cluster, team, "theirs"))


def _is_kept_out_by_a_quota(cluster: Cluster, team: str) -> None:
    quota: dict[str, Any] = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}}
    cluster.apply({**quota, "spec": {"hard": {"pods": "0"}}}, manifest("refused"), namespace=team)

    def says_so() -> bool:
        stages = status(cluster, team, "refused").get("stages", [])
        return bool(stages) and stages[0].get("waiting", {}).get("reason") == "QuotaExceeded"

    eventually(says_so)
    cluster.kubectl("delete", "resourcequota", "none", "-n", team)
    cluster.kubectl("delete", "sdr", "refused", "-n", team)


def _loses_a_service(cluster: Cluster, team: str) -> None:
    cluster.apply(manifest("drifts", trains=None), namespace=team)
    eventually(lambda: len(_running(cluster, team)) >= 2)
    cluster.kubectl("delete", "service", "-n", team, "-l", "unisd.dev/run=drifts")
    eventually(lambda: children(cluster, team, "services"))
    cluster.kubectl("delete", "sdr", "drifts", "-n", team)


def _is_evicted_by_kueue(cluster: Cluster) -> None:
    team = add_queue(cluster, gpus=2)
    cluster.apply(queued_run("queued", trains=None), namespace=team)
    reaches(cluster, team, "queued", "Training")
    name = workload(cluster, team, "queued")["metadata"]["name"]
    for active in ("false", "true"):
        patch = f'{{"spec": {{"active": {active}}}}}'
        cluster.kubectl("patch", "workload", name, "-n", team, "--type=merge", "-p", patch)
        eventually(lambda active=active: bool(gpu_pods(cluster, team, "queued")) is (active == "true"))
    cluster.kubectl("delete", "sdr", "queued", "-n", team)
    cluster.apply(queued_run("soon", ttlSecondsAfterFinished=2), namespace=team)
    ends(cluster, team, "soon")
    eventually(lambda: not cluster.json("get", "workloads", "-n", team)["items"])


def _running(cluster: Cluster, team: str) -> list[Any]:
    found = children(cluster, team, "pods")
    return [p for p in found if p["status"].get("phase") == "Running" and "deletionTimestamp" not in p["metadata"]]


def _stalled(cluster: Cluster, team: str, run: str) -> bool:
    conditions = status(cluster, team, run).get("conditions", [])
    return any(one["type"] == "Stalled" and one["status"] == "True" for one in conditions)


SCENARIOS = (
    _succeeds_and_is_cleared_away,
    _keeps_its_claim_on_failure,
    _fails_twice,
    _is_suspended_and_deleted,
    _finds_a_foreign_claim,
    _is_kept_out_by_a_quota,
    _loses_a_service,
)


@pytest.mark.parametrize("namespaced", [False, True], ids=["cluster-wide", "namespaced"])
def test_nothing_is_denied_and_nothing_unused(fresh_cluster: Cluster, namespaced: bool) -> None:
    cluster, team = fresh_cluster, "team-a"
    cluster.create_namespace(team)
    cluster.create_namespace(NAMESPACE)
    cluster.add_fake_node("node-a", gpus=64)
    cluster.add_volumes(10)
    cluster.set_pod_log("KeyError: 'answer'")
    if not namespaced:
        cluster.start_kueue()
    install(cluster, "unisd-crds")
    install(cluster, "unisd-operator", {"namespaces": [team] if namespaced else [], "settings": SETTINGS})
    process = operate(cluster)
    with restarted(process):
        for scenario in SCENARIOS:
            scenario(cluster, team)
        if not namespaced:
            _is_evicted_by_kueue(cluster)
    assert process.stop() == 0, process.log()

    told = cluster.audit(ACCOUNT)
    assert not denied(told)
    unused = {right for right in granted(cluster) - used(told) if not (namespaced and right[0] == KUEUE)}
    assert sorted(unused) == []
