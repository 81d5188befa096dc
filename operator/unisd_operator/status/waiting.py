"""Why something has not started: a state of the cluster that may pass. Pure; a failure is `failures`'."""

import re
from collections.abc import Sequence

from unisd_operator.api.status import Waiting, WaitingReason
from unisd_operator.observed import ChildState, PodState
from unisd_operator.status.turn import Turn, cut

_POD_CHANGED = re.compile(r'Pod "[^"]*" is invalid')
"""A pod whose template was let in: a rule of the namespace has made it invalid, mostly the default of a LimitRange."""
_VOLUME_WORDS = ("unbound immediate PersistentVolumeClaims", "persistentvolumeclaim", "persistent volumes to bind")


def waiting(reason: WaitingReason, message: str) -> Waiting:
    """A reason with its sentence, cut to what status takes."""
    return Waiting(reason=reason, message=cut(message, 1024))


def not_started(turn: Turn, makers: Sequence[ChildState | None], pods: Sequence[PodState], wanted: int) -> Waiting:
    """Why fewer pods than wanted run.

    Args:
        turn: this turn.
        makers: the Jobs and Deployments that make the pods; None for one that is not there yet.
        pods: the pods that there are.
        wanted: how many there should be.
    """
    missing = len(pods) < wanted
    for maker in makers:
        if missing and maker is not None and maker.refusal:
            return not_let_in(maker.refusal)
    unplaced = [pod for pod in pods if not pod.scheduled]
    told = next((pod for pod in unplaced if pod.scheduler_message), None)
    if told is not None:
        volume = any(word in told.scheduler_message for word in _VOLUME_WORDS)
        said = f"pod {told.name}: {told.scheduler_message}{claim_text(turn) if volume else ''}"
        return waiting("VolumeNotReady" if volume else "Unschedulable", said)
    if pods and not unplaced and (unbound := claim_text(turn)):
        return waiting("VolumeNotReady", unbound.strip("; "))
    held = next((pod for pod in pods if pod.phase == "Pending" and "volume" in pod.event.lower()), None)
    if held is not None:
        return waiting("VolumeNotReady", f"pod {held.name}: {held.event}")
    running = sum(is_running(pod) for pod in pods)
    return waiting("WaitingForPods", f"{running} of {wanted} pods run{_pulling(pods)}")


def refusal_reason(message: str) -> WaitingReason:
    """What it means that pods are not let in."""
    if "exceeded quota" in message:
        return "QuotaExceeded"
    if "forbidden" in message.lower() or _POD_CHANGED.search(message):
        return "Forbidden"
    return "WaitingForPods"


def not_let_in(refusal: str) -> Waiting:
    """Waits for the API server to let its objects in."""
    return waiting(refusal_reason(refusal), refusal)


def may_pass(refusal: str) -> bool:
    """Whether an object that the API server refused may be let in later: quota and rights change, a schema does not."""
    return refusal_reason(refusal) != "WaitingForPods"


def is_running(pod: PodState) -> bool:
    """Whether a pod's containers run, or have."""
    return pod.phase in ("Running", "Succeeded")


def claim_text(turn: Turn) -> str:
    """What keeps the run's claim from being bound; empty if it is, or none is seen."""
    claims = [child for child in turn.observed.children if child.kind == "PersistentVolumeClaim"]
    unbound = next((claim for claim in claims if claim.conditions.get("Bound", "False") != "True"), None)
    return f"; claim {unbound.name} is {unbound.message or 'not bound'}" if unbound else ""


def foreign_claim(turn: Turn) -> Waiting | None:
    """Nothing begins on a claim that the run neither made nor was given."""
    if not turn.observed.foreign_claim:
        return None
    return waiting("VolumeNotReady", "a claim of the run's name exists that was not made for this run")


def queued(turn: Turn, workload: ChildState | None) -> Waiting:
    """What Kueue says of a Workload."""
    queue = turn.spec.queue_name
    if not turn.observed.kueue:
        text = (
            f"spec.queueName is {queue}, but Kueue is not installed in this cluster: install it, or make the run again"
        )
        return waiting("Queued", f"{text} without queueName")
    said = workload.message if workload else "its Workload is being made"
    return waiting("Queued", f"waits in queue {queue}: {said or 'not admitted yet'}")


def _pulling(pods: Sequence[PodState]) -> str:
    """What pods that have not begun wait with: the last word about each, else about its containers."""
    reasons = {pod.event for pod in pods if pod.phase == "Pending" and pod.event} or {
        f"{container.waiting_reason} {container.waiting_message}".strip()
        for pod in pods
        for container in pod.containers
        if container.waiting_reason
    }
    return f" ({cut(', '.join(sorted(reasons)), 500)})" if reasons else ""
