"""What follows a failed, released or interrupted attempt: another one after a while, or the end. Pure.

Called by `stages` and `arms`, which treat attempts alike.
"""

import hashlib
from datetime import timedelta

from unisd_operator.api.status import Component, Failure, FailureReason, Waiting
from unisd_operator.status.turn import Turn, Work, but, cut

FINAL: frozenset[FailureReason] = frozenset(
    {"BadInput", "InvalidSpec", "PolicyCollapsed", "NonFinite", "CheckpointCorrupt", "FailFast"}
)
"""Never retried: the same inputs end the same way."""
UNCOUNTED: frozenset[FailureReason] = frozenset({"Evicted", "Preempted", "NodeLost"})
"""Retried without counting against backoffLimit: the cluster's doing."""
LONGEST_DELAY = timedelta(minutes=10)


def fail(turn: Turn, work: Work, failure: Failure, final: bool | None = None) -> Work:
    """The work after a failed attempt.

    Args:
        turn: this turn.
        work: what failed.
        failure: why.
        final: whether it is not tried again; by default the reason decides.
    """
    failed = work.failed_attempts + (failure.reason not in UNCOUNTED)
    given_up = (failure.reason in FINAL if final is None else final) or failed > turn.spec.backoff_limit
    failure = failure.model_copy(update={"attempt": work.attempt})
    work = stopped(turn, work, failed_attempts=failed, failure=failure)
    if given_up:
        return but(work, phase="Failed", completion_time=turn.now, waiting=None)
    delay = backoff(turn, failed)
    message = f"attempt {work.attempt} ended with {failure.reason}; attempt {work.attempt + 1} starts in {_text(delay)}"
    return but(
        work,
        phase="Pending",
        attempt=work.attempt + 1,
        retry_time=turn.now + delay,
        waiting=Waiting(reason="BackOff", message=message),
    )


def release(turn: Turn, work: Work, waiting: Waiting) -> Work:
    """The work after its pods were given back because they did not all get a place in time.

    The delay is jittered by a hash, so that two runs that hold each other's GPUs do not ask again at once.
    """
    released = work.admission_attempts + 1
    delay = backoff(turn, released) * (0.5 + _jitter(turn.run.uid, work.name, released))
    limit = turn.spec.pre_running_deadline_seconds
    message = f"released after {limit} s without all pods placed, asks again in {_text(delay)}: {waiting.message}"
    return but(
        work,
        phase="Pending",
        attempt=work.attempt + 1,
        admission_attempts=released,
        admitted_time=None,
        retry_time=turn.now + delay,
        waiting=Waiting(reason=waiting.reason, message=cut(message, 1024)),
    )


def interrupt(turn: Turn, work: Work, phase: str, waiting: Waiting | None) -> Work:
    """The work when its pods are stopped from outside (suspension, Kueue): the same attempt goes on later."""
    return away_from_lost(turn, but(stopped(turn, work), phase=phase, waiting=waiting))


def away_from_lost(turn: Turn, work: Work) -> Work:
    """The work that goes on later, under another attempt if a pod of this one is on a node that does not answer.

    What might revive there must not share the attempt's folder.
    """
    lost = any(pod.is_lost(turn.now) and pod.attempt == work.attempt for pod in turn.all_pods(work))
    return but(work, attempt=work.attempt + 1) if lost else work


def backoff(turn: Turn, count: int) -> timedelta:
    """Delay before the try after the `count`-th that did not work: doubled each time, at most 10 minutes."""
    seconds = turn.settings.retry_seconds * 2 ** min(max(count - 1, 0), 16)
    return min(timedelta(seconds=seconds), LONGEST_DELAY)


def stopped(turn: Turn, work: Work, **changes: object) -> Work:
    """The work with its clocks stopped."""
    if isinstance(work, Component) and work.admitted_time is not None:
        changes["active_seconds"] = work.active_seconds + (turn.now - work.admitted_time).total_seconds()
    return but(work, admitted_time=None, **changes)


def _jitter(*parts: object) -> float:
    """A number from 0 to 1 that depends on the parts alone."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32


def _text(delay: timedelta) -> str:
    return f"{round(delay.total_seconds())} s"
