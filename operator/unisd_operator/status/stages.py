"""The stages that a run's components share: prepare, contexts, report, each a Job with attempts. Pure.

Called by `derive`.
"""

from collections.abc import Sequence
from typing import Literal

from unisd.stages import stages as stages_of
from unisd_operator.api.status import ENDED, Component, Stage, Waiting
from unisd_operator.observed import PodState
from unisd_operator.status.attempts import fail, interrupt, release
from unisd_operator.status.deadlines import ACTIVE, not_placed
from unisd_operator.status.failures import failure, job_failure, pod_failure, refused
from unisd_operator.status.results import read_progress
from unisd_operator.status.turn import Turn, but
from unisd_operator.status.waiting import foreign_claim, is_running, not_let_in, not_started, waiting

SHARED: tuple[Literal["prepare", "contexts", "report"], ...] = ("prepare", "contexts", "report")


def first_stages(turn: Turn) -> list[Stage]:
    """The shared stages that the run has, none begun."""
    assert turn.run.run is not None, "an invalid run is not derived further"
    kinds = {stage.kind for stage in stages_of(turn.run.run, {})}
    return [Stage(name=name) for name in SHARED if name in kinds]


def advance_stages(turn: Turn, stages: Sequence[Stage], components: Sequence[Component]) -> list[Stage]:
    """The stages after this turn. A report that will never have anything to tell leaves the list."""
    found: dict[str, Stage] = {}
    for stage in stages:
        ready = _ready(stage, found, components)
        if stage.name != "report" or stage.phase != "Pending" or not _pointless(components):
            found[stage.name] = _advance(turn, stage, ready)
    return list(found.values())


def _ready(stage: Stage, before: dict[str, Stage], components: Sequence[Component]) -> bool:
    """Whether all that a stage reads is there."""
    if stage.name == "report":
        return all(arm.phase in ENDED for arm in components)
    return all(done.phase == "Succeeded" for done in before.values())


def _pointless(components: Sequence[Component]) -> bool:
    return all(arm.phase == "Failed" for arm in components)


def _advance(turn: Turn, stage: Stage, ready: bool) -> Stage:
    if stage.phase in ENDED:
        return stage
    if stage.phase in ACTIVE:
        stage = _watch(turn, stage)
    if turn.spec.suspend and stage.phase not in (*ENDED, "Suspended"):
        return interrupt(turn, stage, "Suspended", None)
    if stage.phase == "Suspended" and not turn.spec.suspend:
        stage = but(stage, phase="Pending", retry_time=None)
    return _start(turn, stage, ready) if stage.phase == "Pending" else stage


def _start(turn: Turn, stage: Stage, ready: bool) -> Stage:
    """A pending stage, begun if nothing stands against it."""
    if not ready:
        return stage
    if stage.retry_time is not None and turn.now < stage.retry_time:
        return stage
    if (foreign := foreign_claim(turn)) is not None:
        return but(stage, waiting=foreign)
    if _leftovers(turn, stage):
        return but(stage, waiting=waiting("WaitingForPods", "pods of the attempt before have not ended yet"))
    image = _image(turn, stage)
    return but(stage, phase="Starting", admitted_time=turn.now, retry_time=None, image=image, waiting=None)


def _image(turn: Turn, stage: Stage) -> str:
    spec, images = turn.spec, turn.settings.images
    own = spec.evaluation.image if stage.name == "report" else spec.preparation.image
    return own or images.trainer


def _leftovers(turn: Turn, stage: Stage) -> bool:
    makers = [c for c in turn.observed.of(None, stage.name) if c.kind in ("Job", "Deployment")]
    return bool(makers or turn.observed.pods_of(None, stage.name))


def _watch(turn: Turn, stage: Stage) -> Stage:
    """A stage that has begun: done, failed, or how far it is."""
    job, pods = turn.job(stage, stage.name), turn.pods(stage, stage.name)
    stage = _with_answer(turn, stage)
    if any(is_running(pod) for pod in pods) and stage.start_time is None:
        stage = but(stage, start_time=turn.now)
    if job is not None and job.succeeded:
        return but(stage, phase="Succeeded", completion_time=turn.now, admitted_time=None, waiting=None)
    servers = turn.pods(stage, "rollout") if stage.name == "contexts" else []
    found = refused(turn, stage) or pod_failure(turn, [*pods, *servers]) or job_failure(turn, job, pods)
    if found is not None:
        return fail(turn, stage, found)
    if pods and all(map(is_running, pods)):
        return but(stage, phase="Running", waiting=None)
    refusal = turn.refusal(stage)
    return _wait(turn, stage, not_let_in(refusal) if refusal else not_started(turn, [job], pods, wanted=1), pods)


def _wait(turn: Turn, stage: Stage, why: Waiting, pods: Sequence[PodState]) -> Stage:
    """A stage whose pod does not run yet, until it has been too long."""
    if not not_placed(turn, stage.admitted_time):
        return but(stage, waiting=why)
    if pods and all(pod.scheduled for pod in pods):
        return fail(turn, stage, failure("DeadlineExceeded", f"its pod does not start: {why.message}"), final=False)
    return release(turn, stage, why)


def _with_answer(turn: Turn, stage: Stage) -> Stage:
    answer = turn.observed.answers.get(stage.name)
    found = read_progress(answer.values) if answer else None
    if answer is None or found is None or stage.admitted_time is None or answer.time < stage.admitted_time:
        return stage
    before = stage.progress
    moved = answer.time if before is None or before.step != found.step else before.last_updated_time
    return but(stage, progress=found.model_copy(update={"last_updated_time": moved}))
