"""Keeps a status below what the API server takes. Pure; called by `derive`."""

from datetime import UTC, datetime

from unisd_operator.api.status import Component, Status

LIMIT = 512 * 1000
"""Most bytes of a status as JSON: etcd refuses objects of more than 1.5 MB, and managed fields come on top."""
_NEVER = datetime.min.replace(tzinfo=UTC)


def fitted(status: Status, limit: int = LIMIT) -> Status:
    """The status, with the oldest log tails left out, and then metrics, until it fits."""
    over = _bytes(status) - limit
    components = list(status.components)
    order = sorted(range(len(components)), key=lambda index: _time(components[index]))
    for cut in (_without_log, _without_metrics):
        for index in order:
            if over <= 0:
                return status.model_copy(update={"components": components})
            less = cut(components[index])
            over -= _bytes(components[index]) - _bytes(less)
            components[index] = less
    return status.model_copy(update={"components": components})


def _bytes(value: Status | Component) -> int:
    """Length as JSON."""
    return len(value.model_dump_json(by_alias=True, exclude_none=True).encode())


def _time(arm: Component) -> datetime:
    """About when a component's newest failure was."""
    return arm.completion_time or arm.retry_time or arm.admitted_time or _NEVER


def _without_log(arm: Component) -> Component:
    if arm.failure is None:
        return arm
    return arm.model_copy(update={"failure": arm.failure.model_copy(update={"log_tail": None})})


def _without_metrics(arm: Component) -> Component:
    if arm.progress is None:
        return arm
    return arm.model_copy(update={"progress": arm.progress.model_copy(update={"metrics": {}})})
