"""Deadlines of a run: which have passed, and when the next one will. Pure.

`activeDeadlineSeconds` counts the time that attempts held their slot; waiting, back-off and suspension do not count.
`preRunningDeadlineSeconds` counts from the moment an attempt got its slot. `progressDeadlineSeconds` counts between two
answers of the trainer with one and the same step.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

from unisd.config.run import RunSpec
from unisd_operator.api.resource import RunResource
from unisd_operator.api.status import ACTIVE, ENDED, Component, Failure, Status
from unisd_operator.status.failures import failure
from unisd_operator.status.turn import Turn, works

_ANSWERED = timedelta(seconds=15)
"""By then after a deadline the trainer has been asked again (`progressSeconds` of the settings, 10 by default)."""


def too_long(turn: Turn, arm: Component) -> Failure | None:
    """DeadlineExceeded, once a component has been at work for longer than it may."""
    limit = turn.spec.active_deadline_seconds
    end = _active_end(arm, limit)
    if limit is None or end is None or turn.now < end:
        return None
    what = f"was at work for longer than spec.activeDeadlineSeconds of {limit}"
    return failure("DeadlineExceeded", what)


def stands_still(turn: Turn, arm: Component) -> Failure | None:
    """NoProgress, once the trainer has answered for too long with the same step. No answer is no evidence."""
    answer, progress = turn.observed.answers.get(arm.name), arm.progress
    if arm.phase != "Training" or progress is None or progress.last_updated_time is None:
        return None
    limit = turn.spec.progress_deadline_seconds
    if answer is None or answer.values is None or answer.values.get("step") != progress.step:
        return None
    if answer.time - progress.last_updated_time < timedelta(seconds=limit):
        return None
    what = (
        f"step {progress.step} of {progress.total_steps} has not ended within spec.progressDeadlineSeconds of {limit}"
    )
    return failure("NoProgress", f"{what}; see metrics and log of the trainer for what it waits for")


def not_placed(turn: Turn, since: datetime | None) -> bool:
    """Whether an attempt has asked for its pods for longer than it may."""
    return since is not None and turn.now >= since + timedelta(seconds=turn.spec.pre_running_deadline_seconds)


def due(run: RunResource, status: Status, now: datetime) -> datetime | None:
    """When `derive_status` may next say something else although nothing happens: a retry or a deadline after now."""
    if run.run is None:
        return None
    return min((time for time in _times(run, status) if time > now), default=None)


def _times(run: RunResource, status: Status) -> Iterator[datetime]:
    spec = run.spec
    if status.completion_time is not None:
        if spec.ttl_seconds_after_finished is not None and not status.children_expired:
            yield status.completion_time + timedelta(seconds=spec.ttl_seconds_after_finished)
        return
    for work in works(status):
        if work.phase in ENDED or spec.suspend:
            continue
        if work.phase == "Pending" and work.retry_time is not None:
            yield work.retry_time
        if work.admitted_time is not None and work.phase in ("Starting", "Evaluating"):
            yield work.admitted_time + timedelta(seconds=spec.pre_running_deadline_seconds)
        if isinstance(work, Component):
            yield from _component_times(spec, work)


def _component_times(spec: RunSpec, arm: Component) -> Iterator[datetime]:
    if (end := _active_end(arm, spec.active_deadline_seconds)) is not None:
        yield end
    moved = arm.progress.last_updated_time if arm.progress else None
    if arm.phase == "Training" and moved is not None:
        yield moved + timedelta(seconds=spec.progress_deadline_seconds) + _ANSWERED


def _active_end(arm: Component, limit: int | None) -> datetime | None:
    if limit is None or arm.admitted_time is None or arm.phase not in ACTIVE:
        return None
    return arm.admitted_time + timedelta(seconds=limit - arm.active_seconds)
