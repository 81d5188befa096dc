"""Objects as the API server sends them, and what is kept of them."""

from datetime import UTC, datetime
from typing import Any

from unisd_operator.cluster.observe import child_state, pod_state

BORN = "2026-01-01T00:00:00Z"


def body(kind: str, status: Any = None, spec: Any = None, **metadata: Any) -> dict[str, Any]:
    labels = {"unisd.dev/arm": "star-1", "unisd.dev/role": "train", "unisd.dev/attempt": "2"}
    annotations = {"unisd.dev/hash": "abc"}
    fixed = {"name": "x", "namespace": "ns", "uid": "u", "creationTimestamp": BORN}
    fixed |= {"labels": labels, "annotations": annotations}
    return {"kind": kind, "metadata": fixed | metadata, "spec": spec or {}, "status": status or {}}


def condition(kind: str, status: str = "True", **more: str) -> dict[str, str]:
    return {"type": kind, "status": status, "lastTransitionTime": "2026-01-01T00:01:00Z", **more}


def test_labels_and_limits_of_somebody_else_are_no_trouble() -> None:
    labels = {"unisd.dev/role": "train", "unisd.dev/attempt": "second"}
    limits = {"containers": [{"resources": {"limits": {"nvidia.com/gpu": "1k"}}}]}
    pod = pod_state(body("Pod", spec=limits, labels=labels), "nvidia.com/gpu")
    assert (pod.attempt, pod.gpus) == (0, 0)


def test_what_every_child_has() -> None:
    child = child_state("ConfigMap", body("ConfigMap"))
    assert (child.arm, child.role, child.attempt, child.hash) == ("star-1", "train", 2, "abc")
    assert child.created == datetime(2026, 1, 1, tzinfo=UTC)
    assert not child.deleting
    assert child_state("ConfigMap", body("ConfigMap", deletionTimestamp=BORN)).deleting


def test_specifications_are_kept_where_drift_is_repaired() -> None:
    assert child_state("Service", body("Service", spec={"ports": [1]})).spec == {"ports": [1]}
    assert child_state("Job", body("Job", spec={"template": {}})).spec is None


def test_a_job_succeeds_or_fails_by_its_conditions() -> None:
    done = child_state("Job", body("Job", {"conditions": [condition("SuccessCriteriaMet")], "ready": 0}))
    assert (done.succeeded, done.failed) == (True, False)
    assert done.ended == datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
    failed = child_state("Job", body("Job", {"conditions": [condition("FailureTarget", message="pod failed")]}))
    assert (failed.failed, failed.message) == (True, "pod failed")
    running = child_state("Job", body("Job", {"conditions": [condition("Complete", "False")], "ready": 2}))
    assert (running.succeeded, running.failed, running.ready) == (False, False, 2)


def test_a_deployment_tells_why_it_makes_no_pods() -> None:
    status = {"readyReplicas": 1, "conditions": [condition("ReplicaFailure", message="exceeded quota")]}
    servers = child_state("Deployment", body("Deployment", status, {"replicas": 2}))
    assert (servers.ready, servers.replicas, servers.refusal) == (1, 2, "exceeded quota")


def test_a_claim_and_a_workload() -> None:
    claim = child_state("PersistentVolumeClaim", body("PersistentVolumeClaim", {"phase": "Bound"}))
    assert claim.conditions == {"Bound": "True"}
    conditions = [condition("QuotaReserved", "False", reason="Pending", message="no quota")]
    workload = child_state("Workload", body("Workload", {"conditions": conditions}))
    assert (workload.conditions, workload.reasons) == ({"QuotaReserved": "False"}, {"QuotaReserved": "Pending"})
    assert workload.message == "no quota"


def test_a_workload_says_what_takes_its_quota_and_who_can_give_it_back() -> None:
    evicted = condition("Evicted", reason="Preempted", message="preempted by w2")
    held = {"conditions": [condition("QuotaReserved", message="reserved"), evicted]}
    assert child_state("Workload", body("Workload", held)).message == "preempted by w2"
    released = {"conditions": [condition("QuotaReserved", "False", message="no quota"), evicted]}
    assert child_state("Workload", body("Workload", released)).message == "no quota"
    inactive = child_state("Workload", body("Workload", released, {"active": False}))
    assert "is deactivated (preempted by w2); set its spec.active to true" in inactive.message


def test_a_pod() -> None:
    status = {
        "phase": "Running",
        "podIP": "10.0.0.1",
        "startTime": BORN,
        "conditions": [
            condition("PodScheduled"),
            condition("Ready"),
            condition("DisruptionTarget", reason="Preempted"),
        ],
        "containerStatuses": [{"name": "train", "ready": True, "restartCount": 0, "state": {"running": {}}}],
    }
    limits = {"resources": {"limits": {"nvidia.com/gpu": "4"}}}
    annotations = {"batch.kubernetes.io/job-completion-index": "1"}
    spec = {"nodeName": "n", "containers": [limits, {}]}
    pod = pod_state(body("Pod", status, spec, annotations=annotations), "nvidia.com/gpu")
    assert (pod.phase, pod.ip, pod.node, pod.gpus, pod.index) == ("Running", "10.0.0.1", "n", 4, 1)
    assert pod.scheduled
    assert pod.ready
    assert pod.disruption_reason == "Preempted"
    assert pod.containers[0].running
    assert pod.containers[0].exit_code is None


def test_a_pod_that_cannot_be_placed_carries_the_schedulers_words() -> None:
    status = {"phase": "Pending", "conditions": [condition("PodScheduled", "False", message="Insufficient gpu")]}
    pod = pod_state(body("Pod", status, {"containers": []}), "nvidia.com/gpu")
    assert (pod.scheduled, pod.scheduler_message) == (False, "Insufficient gpu")


def test_deletion_is_counted_from_when_it_was_asked_for() -> None:
    metadata = {"deletionTimestamp": "2026-01-01T00:01:00Z", "deletionGracePeriodSeconds": 60}
    pod = pod_state(body("Pod", {}, {"containers": []}, **metadata), "nvidia.com/gpu")
    assert pod.deleting_since == datetime(2026, 1, 1, tzinfo=UTC)
    assert pod.grace_seconds == 60


def test_a_container_that_waits_for_its_restart_shows_how_it_ended() -> None:
    ended = {"exitCode": 137, "reason": "OOMKilled", "message": "{}", "finishedAt": BORN}
    state = {"name": "vllm", "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    status = {"containerStatuses": [state | {"lastState": {"terminated": ended}}]}
    (container,) = pod_state(body("Pod", status, {"containers": []}), "nvidia.com/gpu").containers
    assert (container.exit_code, container.terminated_reason, container.restarts) == (137, "OOMKilled", 3)
    again = {"containerStatuses": [state | {"state": {"running": {}}, "lastState": {"terminated": ended}}]}
    (container,) = pod_state(body("Pod", again, {"containers": []}), "nvidia.com/gpu").containers
    assert container.exit_code is None
