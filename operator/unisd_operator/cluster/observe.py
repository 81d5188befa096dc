"""Objects as the API server sends them, read into the slim values of `observed`. Pure; called by `store`.

What decisions need is kept, the rest is let go at once: whole objects of thousands of children would not fit.
"""

import sys
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, cast

from unisd_operator.api.names import ARM, ATTEMPT, HASH, ROLE, Object, Role
from unisd_operator.observed import ChildState, ContainerState, PodState
from unisd_operator.untrusted import gpus_of, whole_number

_INDEX = "batch.kubernetes.io/job-completion-index"
_WITH_SPEC = frozenset({"Service", "NetworkPolicy", "PodDisruptionBudget", "PersistentVolumeClaim"})
_SUCCEEDED = ("Complete", "SuccessCriteriaMet")
_FAILED = ("Failed", "FailureTarget")


def child_state(kind: str, body: Object) -> ChildState:
    """A child other than a pod."""
    metadata = body["metadata"]
    arm, role, attempt = _place(metadata)
    return ChildState(
        kind=kind,
        name=metadata["name"],
        uid=metadata["uid"],
        role=role,
        arm=arm,
        attempt=attempt,
        hash=metadata.get("annotations", {}).get(HASH, ""),
        created=_time(metadata["creationTimestamp"]),
        deleting="deletionTimestamp" in metadata,
        spec=body.get("spec") if kind in _WITH_SPEC else None,
        **_details(kind, body),
    )


def pod_state(body: Object, gpu_resource: str) -> PodState:
    """A pod."""
    metadata, spec, status = body["metadata"], body["spec"], body.get("status", {})
    arm, role, attempt = _place(metadata)
    conditions = _conditions(status)
    scheduled, disrupted = conditions.get("PodScheduled", {}), conditions.get("DisruptionTarget", {})
    grace = metadata.get("deletionGracePeriodSeconds", spec.get("terminationGracePeriodSeconds", 30))
    return PodState(
        name=metadata["name"],
        uid=metadata["uid"],
        role=role,
        arm=arm,
        attempt=attempt,
        phase=sys.intern(status.get("phase", "Pending")),
        created=_time(metadata["creationTimestamp"]),
        node=spec.get("nodeName", ""),
        ip=status.get("podIP", ""),
        reason=status.get("reason", ""),
        message=status.get("message", ""),
        scheduled=bool(spec.get("nodeName")),
        scheduler_message=scheduled.get("message", "") if scheduled.get("status") == "False" else "",
        ready=conditions.get("Ready", {}).get("status") == "True",
        deleting_since=_deleted(metadata, grace),
        grace_seconds=grace,
        disruption_reason=disrupted.get("reason", "") if disrupted.get("status") == "True" else "",
        disruption_message=disrupted.get("message", "") if disrupted.get("status") == "True" else "",
        gpus=gpus_of(spec["containers"], gpu_resource),
        index=int(metadata.get("annotations", {}).get(_INDEX, 0)),
        containers=tuple(
            _container(state)
            for state in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ()))
        ),
        started=_time(status["startTime"]) if "startTime" in status else None,
    )


def _place(metadata: Object) -> tuple[str | None, Role, int]:
    """Arm, role and attempt, by the labels that planning gave."""
    labels = metadata["labels"]
    arm = labels.get(ARM)
    role = cast(Role, sys.intern(labels.get(ROLE, "storage")))
    return sys.intern(arm) if arm else None, role, whole_number(labels.get(ATTEMPT, "1"))


def _details(kind: str, body: Object) -> dict[str, Any]:
    """Fields of ChildState that one kind alone has."""
    status = body.get("status", {})
    if kind == "Job":
        return _job(status)
    if kind == "Deployment":
        failure = _conditions(status).get("ReplicaFailure", {})
        message = failure.get("message", "") if failure.get("status") == "True" else ""
        replicas, ready = body["spec"].get("replicas", 1), status.get("readyReplicas", 0)
        return {"replicas": replicas, "ready": ready, "message": message, "refusal": message}
    if kind == "PersistentVolumeClaim":
        phase = status.get("phase", "Pending")
        return {"message": phase, "conditions": {"Bound": str(phase == "Bound")}}
    if kind == "Workload":
        return _workload(body)
    return {}


def _job(status: Object) -> dict[str, Any]:
    conditions = {name: condition for name, condition in _conditions(status).items() if condition["status"] == "True"}
    succeeded = [conditions[name] for name in _SUCCEEDED if name in conditions]
    failed = [conditions[name] for name in _FAILED if name in conditions]
    ends = [*succeeded, *failed]
    return {
        "ready": status.get("ready", 0),
        "succeeded": bool(succeeded),
        "failed": bool(failed),
        "message": ends[0].get("message", "") if ends else "",
        "ended": _time(ends[0]["lastTransitionTime"]) if ends else None,
    }


def _workload(body: Object) -> dict[str, Any]:
    conditions = _conditions(body.get("status", {}))
    return {
        "message": _of_queue(body, conditions),
        "conditions": {name: condition["status"] for name, condition in conditions.items()},
        "reasons": {name: condition.get("reason", "") for name, condition in conditions.items()},
    }


def _of_queue(body: Object, conditions: Mapping[str, Object]) -> str:
    """Why a Workload has no quota: who holds it, what evicts it, or what Kueue's scheduler says."""
    reserved, evicted = conditions.get("QuotaReserved", {}), conditions.get("Evicted", {})
    why = evicted.get("message", "") if evicted.get("status") == "True" else ""
    if body["spec"].get("active") is False:
        name = body["metadata"]["name"]
        return f"Workload {name} is deactivated ({why or 'spec.active is false'}); set its spec.active to true to go on"
    return str(why if reserved.get("status") == "True" else reserved.get("message", ""))


def _container(status: Object) -> ContainerState:
    state, last = status.get("state", {}), status.get("lastState", {})
    waiting = state.get("waiting", {})
    ended = state.get("terminated") or (last.get("terminated") if waiting else None) or {}
    return ContainerState(
        name=status["name"],
        image=status.get("image", ""),
        ready=status.get("ready", False),
        running="running" in state,
        restarts=status.get("restartCount", 0),
        waiting_reason=waiting.get("reason", ""),
        waiting_message=waiting.get("message", ""),
        exit_code=ended.get("exitCode"),
        terminated_reason=ended.get("reason", ""),
        terminated_message=ended.get("message", ""),
        ended=_time(ended["finishedAt"]) if ended.get("finishedAt") else None,
    )


def _conditions(status: Object) -> dict[str, Object]:
    return {condition["type"]: condition for condition in status.get("conditions") or ()}


def _deleted(metadata: Object, grace: int) -> datetime | None:
    """When the deletion was asked for: the API server notes when its grace ends."""
    stamp = metadata.get("deletionTimestamp")
    return None if stamp is None else _time(stamp) - timedelta(seconds=grace)


def _time(stamp: str) -> datetime:
    return datetime.fromisoformat(stamp)
