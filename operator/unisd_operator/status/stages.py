"""The stages that a run's components share: prepare, contexts, report, push, each a Job with attempts. Pure.

Called by `derive`.
"""

from collections.abc import Sequence
from typing import Literal

from unisd.stages import CLOSING
from unisd.stages import stages as stages_of
from unisd_operator.api.status import ACTIVE, ENDED, Component, Failure, Stage, Waiting
from unisd_operator.observed import PodState
from unisd_operator.planning.images import images
from unisd_operator.status.attempts import away_from_lost, fail, interrupt, release
from unisd_operator.status.deadlines import not_placed
from unisd_operator.status.failures import failure, job_failure, pod_failure, refused
from unisd_operator.status.results import with_stage_answer
from unisd_operator.status.turn import Turn, but
from unisd_operator.status.waiting import foreign_claim, is_running, not_let_in, not_started, waiting

SHARED: tuple[Literal["prepare", "contexts", "report", "push"], ...] = ("prepare", "contexts", "report", "push")


def first_stages(turn: Turn) -> list[Stage]:
    """The shared stages that the run has, none begun."""
    assert turn.run.run is not None, "an invalid run is not derived further"
    kinds = {stage.kind for stage in stages_of(turn.run.run, {})}
    return [Stage(name=name) for name in SHARED if name in kinds]


def advance_stages(turn: Turn, stages: Sequence[Stage], components: Sequence[Component]) -> list[Stage]:
    """The stages after this turn. One that nobody needs any more leaves the list."""
    found: list[Stage] = []
    for stage in stages:
        if stage.phase in ENDED:
            found.append(stage)
        elif not _pointless(stage, components):
            found.append(_advance(turn, stage, _ready(stage, found, components)))
    return found


def _ready(stage: Stage, before: Sequence[Stage], components: Sequence[Component]) -> bool:
    """Whether all that a stage reads is there."""
    if stage.name in CLOSING:
        return all(arm.phase in ENDED for arm in components)
    return all(done.phase == "Succeeded" for done in before)


def _pointless(stage: Stage, components: Sequence[Component]) -> bool:
    """A report or a push without a result; negatives when every component has ended without them."""
    ends = ("Failed",) if stage.name in CLOSING else tuple(ENDED)
    return all(arm.phase in ends for arm in components)


def _advance(turn: Turn, stage: Stage, ready: bool) -> Stage:
    if stage.phase in ACTIVE:
        stage = _watch(turn, stage)
    elif stage.phase == "Suspended":
        stage = away_from_lost(turn, stage)
    if turn.spec.suspend and stage.phase not in (*ENDED, "Suspended"):
        return interrupt(turn, stage, "Suspended", None)
    if stage.phase == "Suspended" and not turn.spec.suspend:
        stage = but(stage, phase="Pending", retry_time=None)
    return _start(turn, stage, ready) if stage.phase == "Pending" else stage


def _start(turn: Turn, stage: Stage, ready: bool) -> Stage:
    """A pending stage, begun if nothing stands against it."""
    if not ready or (stage.retry_time is not None and turn.now < stage.retry_time):
        return stage
    if (foreign := foreign_claim(turn)) is not None:
        return but(stage, waiting=foreign)
    if _leftovers(turn, stage):
        return but(stage, waiting=waiting("WaitingForPods", "pods of the attempt before have not ended yet"))
    image = images(turn.spec, turn.settings, {})["evaluation" if stage.name in CLOSING else "preparation"]
    return but(stage, phase="Starting", admitted_time=turn.now, retry_time=None, image=image, waiting=None)


def _leftovers(turn: Turn, stage: Stage) -> bool:
    """Whether something is left of an earlier attempt's pods and their makers."""
    roles = (stage.name, "rollout") if stage.name == "contexts" else (stage.name,)
    makers = [c for c in turn.all_children(stage) if c.role in roles and c.kind in ("Job", "Deployment")]
    return bool(makers or [pod for pod in turn.all_pods(stage) if pod.role in roles])


def _watch(turn: Turn, stage: Stage) -> Stage:
    """A stage that has begun: done, failed, or how far it is."""
    job, workers = turn.job(stage, stage.name), turn.pods(stage, stage.name)
    if job is None and (foreign := foreign_claim(turn)) is not None:
        return but(stage, phase="Pending", admitted_time=None, waiting=foreign)
    pods = [*workers, *turn.pods(stage, "rollout")] if stage.name == "contexts" else workers
    stage = with_stage_answer(turn, stage)
    if any(is_running(pod) for pod in workers) and stage.start_time is None:
        stage = but(stage, start_time=turn.now)
    if job is not None and job.succeeded:
        return but(stage, phase="Succeeded", completion_time=turn.now, admitted_time=None, waiting=None)
    if (found := _failure(turn, stage, pods)) is not None:
        return fail(turn, stage, found)
    if stage.phase == "Running" or (workers and all(map(is_running, workers)) and all(pod.scheduled for pod in pods)):
        return but(stage, phase="Running", waiting=None)
    refusal = turn.refusal(stage)
    return _wait(turn, stage, not_let_in(refusal) if refusal else not_started(turn, [job], pods, wanted=1), pods)


def _failure(turn: Turn, stage: Stage, pods: list[PodState]) -> Failure | None:
    workers = [pod for pod in pods if pod.role == stage.name]
    graders = turn.graders if stage.name == "contexts" else []
    return (
        refused(turn, stage)
        or pod_failure(turn, [*pods, *graders])
        or job_failure(turn, turn.job(stage, stage.name), workers)
    )


def _wait(turn: Turn, stage: Stage, why: Waiting, pods: Sequence[PodState]) -> Stage:
    """A stage whose pod does not run yet, until it has been too long."""
    if not not_placed(turn, stage.admitted_time):
        return but(stage, waiting=why)
    if pods and all(pod.scheduled for pod in pods):
        return fail(turn, stage, failure("DeadlineExceeded", f"its pod does not start: {why.message}"), final=False)
    return release(turn, stage, why)
