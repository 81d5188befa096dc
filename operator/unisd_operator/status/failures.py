"""Why an attempt failed, from its pods: one reason, where it happened, what was said, and the way out. Pure.

Called by `stages` and `arms`. Of several failed containers the one that tells the cause is taken, then the first in
time. What merely waits is `waiting`'s.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import get_args

from unisd.failures import reason_of
from unisd_operator.api.status import Component, Failure, FailureReason, Stage
from unisd_operator.log_text import last_lines, line_in, reason_in
from unisd_operator.observed import LOST_AFTER, ChildState, ContainerState, PodState
from unisd_operator.status.results import message
from unisd_operator.status.turn import SERVERS, Turn, cut
from unisd_operator.status.waiting import may_pass

IMAGE_ERRORS = frozenset(
    {"ImagePullBackOff", "ErrImageNeverPull", "RegistryUnavailable", "SignatureValidationFailed", "ImageInspectError"}
)
"""Waiting reasons about images. ErrImagePull is left out: the kubelet tries once more, then says ImagePullBackOff."""
CONFIG_ERRORS = frozenset(
    {
        "CreateContainerConfigError",
        "CreateContainerError",
        "InvalidImageName",
        "RunContainerError",
        "PreCreateHookError",
        "PreStartHookError",
        "PostStartHookError",
    }
)
"""Waiting reasons about what the pod refers to."""
START_ERRORS = frozenset({"StartError", "ContainerCannotRun"})
"""Terminated reasons of containers that never began."""
CONSEQUENCES: frozenset[FailureReason] = frozenset({"NcclError", "NonZeroExit"})
"""What the other pods of a group report when one of them fails."""
ADVICE: Mapping[FailureReason, str] = {
    "ImagePullBackOff": "check the image's name and tag, and pod.imagePullSecrets of the block",
    "ConfigError": "check Secrets, ConfigMaps and commands that the block's pod names",
    "OOMKilled": "raise the memory limit in the block's resources, or lower batch size or lengths",
    "Evicted": "it goes on from its newest checkpoint elsewhere; this does not count against spec.backoffLimit",
    "Preempted": "it goes on from its newest checkpoint when there is room; a higher pod.priorityClassName prevents it",
    "NodeLost": "it goes on from its newest checkpoint on another node; this does not count against spec.backoffLimit",
    "StorageFull": "make the claim larger, or free space in it (docs/operator/troubleshooting.md)",
    "RolloutCrash": "see the last lines of the server's log; often too little GPU memory or an unsupported model",
    "CudaError": "out of memory: lower training.maxTokensPerPass or perDeviceBatchSize; else check the node's GPU",
    "NcclError": "check the network between the nodes and the first failed pod's log",
    "CheckpointCorrupt": "remove the component's folder from the claim, or run it under another name",
    "NonZeroExit": "see the end of its log",
}
"""The way out, where the container has not said one itself."""
_REASONS = frozenset(get_args(FailureReason))
_EARLIEST = datetime.min.replace(tzinfo=UTC)


def pod_failure(turn: Turn, pods: list[PodState]) -> Failure | None:
    """Why these pods failed; None while none has."""
    found = [failure for pod in pods for failure in _of_pod(turn, pod)]
    if not found:
        return None
    return min(found, key=lambda item: (item[1].reason in CONSEQUENCES, item[0]))[1]


def job_failure(turn: Turn, job: ChildState | None, pods: list[PodState]) -> Failure | None:
    """A Job that failed although none of its pods is seen to have: they were deleted from outside.

    Pods that still end are waited for, a little: the Job may be seen before them.
    """
    if job is None or not job.failed:
        return None
    if not all(pod.ended for pod in pods) and turn.now < (job.ended or turn.now) + LOST_AFTER:
        return None
    said = f" ({job.message})" if job.message else ""
    return failure("Evicted", f"a pod of Job {job.name} was deleted before its end was seen{said}")


def refused(turn: Turn, work: Stage | Component) -> Failure | None:
    """The API server took an object of this work for invalid; None if it did not, or may let it in later."""
    if not turn.refusal(work) or may_pass(turn.refusal(work)):
        return None
    return failure("InvalidSpec", f"the API server refused an object: {turn.refusal(work)}; correct it in a new run")


def failure(
    reason: FailureReason, what: str, pod: PodState | None = None, container: ContainerState | None = None
) -> Failure:
    """A failure, with the way out behind what happened."""
    advice = ADVICE.get(reason)
    return _at(reason, f"{what}; {advice}" if advice else what, pod, container)


def _at(reason: FailureReason, text: str, pod: PodState | None, container: ContainerState | None) -> Failure:
    """A failure and its place."""
    return Failure(
        reason=reason,
        message=cut(text, 2048),
        pod=pod.name if pod else None,
        node=pod.node or None if pod else None,
        container=container.name if container else None,
        exit_code=container.exit_code if container else None,
    )


def _of_pod(turn: Turn, pod: PodState) -> Iterator[tuple[datetime, Failure]]:
    """Failures of one pod, each with its time."""
    for container in pod.containers:
        if (found := _of_waiting(pod, container)) is not None:
            yield pod.created, found
    if pod.role in SERVERS:
        yield from _of_server(turn, pod)
        return
    if pod.phase == "Succeeded":
        return
    if (disrupted := _of_disruption(turn, pod)) is not None:
        yield _EARLIEST, disrupted
        return
    for container in pod.containers:
        if container.exit_code not in (None, 0) and not container.running:
            yield container.ended or turn.now, _of_exit(turn, pod, container)


def _of_waiting(pod: PodState, container: ContainerState) -> Failure | None:
    if container.waiting_reason in IMAGE_ERRORS:
        reason: FailureReason = "ImagePullBackOff"
    elif container.waiting_reason in CONFIG_ERRORS:
        reason = "ConfigError"
    else:
        return None
    said = f": {container.waiting_message}" if container.waiting_message else ""
    what = f"container {container.name} cannot start, {container.waiting_reason}{cut(said, 1024)}"
    return failure(reason, what, pod, container)


def _of_server(turn: Turn, pod: PodState) -> Iterator[tuple[datetime, Failure]]:
    """A server is started again by the kubelet when it ends; only one that keeps ending is a failure."""
    for container in pod.containers:
        if container.waiting_reason != "CrashLoopBackOff":
            continue
        log = _log(turn, pod, container)
        if container.terminated_reason == "OOMKilled":
            found = failure("OOMKilled", f"server {container.name} was killed for memory", pod, container)
        else:
            said = f", its last lines: {last_lines(log)}" if log else ""
            what = f"server {container.name} ended {container.restarts} times, code {container.exit_code}{said}"
            found = failure("RolloutCrash" if pod.role == "rollout" else "NonZeroExit", what, pod, container)
        yield container.ended or turn.now, _with_log(found, log)


def _of_disruption(turn: Turn, pod: PodState) -> Failure | None:
    """What the cluster did to a pod, by its conditions, which namespaced operators can see."""
    said = pod.disruption_message or pod.message
    where = f"pod {pod.name} on node {pod.node or '(none)'}"
    if pod.disruption_reason == "PreemptionByScheduler" or pod.reason == "Preempting":
        return failure("Preempted", f"{where} made room for pods of higher priority: {said}", pod)
    if pod.disruption_reason in ("DeletionByTaintManager", "DeletionByPodGC") or pod.reason in ("NodeLost", "Shutdown"):
        return failure("NodeLost", f"{where} was lost with its node: {said}", pod)
    if pod.is_lost(turn.now):
        return failure("NodeLost", f"{where} was deleted and does not end: its node does not answer", pod)
    if pod.phase == "Failed" and any(word in pod.message for word in ("ephemeral", "EmptyDir")):
        return failure("StorageFull", f"{where} was evicted: {pod.message}", pod)
    if pod.disruption_reason or (pod.phase == "Failed" and pod.reason):
        return failure("Evicted", f"{where} was evicted, {pod.disruption_reason or pod.reason}: {said}", pod)
    return None


def _of_exit(turn: Turn, pod: PodState, container: ContainerState) -> Failure:
    log = _log(turn, pod, container)
    where = f"container {container.name} of pod {pod.name}"
    if container.terminated_reason == "OOMKilled":
        return _with_log(failure("OOMKilled", f"{where} was killed for memory", pod, container), log)
    if container.terminated_reason in START_ERRORS:
        what = f"{where} cannot start: {container.terminated_message}"
        return _with_log(failure("ConfigError", what, pod, container), log)
    told = message(container.terminated_message).get("failure")
    if isinstance(told, Mapping) and told.get("message"):
        return _with_log(_told(told, log, pod, container), log)
    known = reason_of(container.exit_code or 0)
    reason = _known(known, log)
    what = "was told to stop from outside" if reason == "Evicted" else f"ended with code {container.exit_code}"
    what = f"{what}, killed (SIGKILL)" if container.exit_code == 137 else what
    quoted = _quoted(log) if known == "NonZeroExit" else ""
    return _with_log(failure(reason, f"{where} {what}{quoted}", pod, container), log)


def _told(told: Mapping[str, object], log: str, pod: PodState, container: ContainerState) -> Failure:
    """The container's own words, which hold the way out; what it did not foresee may have a cause in its log."""
    said = str(told["message"])
    reason = _known(str(told.get("reason")), f"{said}\n{log}")
    if reason == told.get("reason"):
        return _at(reason, said, pod, container)
    return failure(reason, f"{said}{_quoted(log) if reason_in(said) is None else ''}", pod, container)


def _quoted(log: str) -> str:
    """The line of a log that names a reason, as the end of a sentence."""
    line = line_in(log)
    return f"; its log says: {line}" if line else ""


def _known(reason: str, log: str) -> FailureReason:
    """The reason of status for one that a stage gave."""
    if reason == "Interrupted":
        return "Evicted"
    if reason in _REASONS and reason != "NonZeroExit":
        return next(known for known in get_args(FailureReason) if known == reason)
    return reason_in(log) or "NonZeroExit"


def _log(turn: Turn, pod: PodState, container: ContainerState) -> str:
    return turn.observed.log_tails.get(f"{pod.name}/{container.name}", "")


def _with_log(found: Failure, log: str) -> Failure:
    return found.model_copy(update={"log_tail": log[-4096:] or None})
