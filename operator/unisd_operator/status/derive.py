"""`derive_status`: the status before and what is seen of the children, to the status after."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from unisd_operator.api.resource import RunResource
from unisd_operator.api.status import Component, Stage, Status
from unisd_operator.observed import Observed
from unisd_operator.settings import Settings
from unisd_operator.status.admission import admit, first_components
from unisd_operator.status.arms import advance
from unisd_operator.status.results import left, texts, with_gpu_time
from unisd_operator.status.size import fitted
from unisd_operator.status.stages import advance_stages, first_stages
from unisd_operator.status.summary import invalid, summarised
from unisd_operator.status.turn import Turn, but

_MOST_STEPS = 16
"""More than a run can go in one turn: pending, starting, training, evaluating, ended, report."""


def derive_status(run: RunResource, observed: Observed, settings: Settings, now: datetime) -> Status:
    """The status that follows from the one before, the spec and what is seen of the children at `now`.

    Deriving it again from the result at the same `now` changes nothing.
    """
    if run.deleting:
        return run.status
    if run.run is None:
        return invalid(run, now)
    turn = Turn(run, observed, settings, now)
    before = run.status if run.status.components else _first(turn)
    if before.completion_time is None:
        stages, components = _moved(turn, before.stages, before.components)
        components = _with_figures(turn, stages, before.components, components)
        before = before.model_copy(update={"stages": stages, "components": components})
    return fitted(_with_expiry(turn, summarised(turn, before)))


def _first(turn: Turn) -> Status:
    """The status of a run that was never seen before."""
    return Status(start_time=turn.now, stages=first_stages(turn), components=first_components(turn))


def _moved(turn: Turn, stages: list[Stage], components: list[Component]) -> tuple[list[Stage], list[Component]]:
    """Stages and components moved on until nothing moves: one turn may see what several would have."""
    for _ in range(_MOST_STEPS):
        advanced = [advance(turn, arm) for arm in components]
        stages_after = advance_stages(turn, stages, advanced)
        admitted = admit(turn, stages_after, advanced)
        if (stages_after, admitted) == (stages, components):
            break
        stages, components = stages_after, admitted
    return stages, components


def _with_figures(
    turn: Turn, stages: Sequence[Stage], before: Sequence[Component], after: Sequence[Component]
) -> list[Component]:
    """The components with GPU time, and with what preparation found out for all of them."""
    prepared = next((stage for stage in stages if stage.name == "prepare"), None)
    found = texts((left(turn.pods(prepared, "prepare")) or {}).get("revisions")) if prepared else {}
    metered = [with_gpu_time(turn, arm, arm.phase != old.phase) for arm, old in zip(after, before, strict=True)]
    return [but(arm, revisions=arm.revisions or found) for arm in metered]


def _with_expiry(turn: Turn, status: Status) -> Status:
    """The status that says whether the finished run's children are to go; what has expired stays so."""
    limit = turn.spec.ttl_seconds_after_finished
    if status.completion_time is None or limit is None or status.children_expired:
        return status
    return status.model_copy(update={"children_expired": turn.now >= status.completion_time + timedelta(seconds=limit)})
