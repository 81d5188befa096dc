"""Components from phase to phase: what their Jobs and pods mean for each. Pure; called by `derive`.

Starting a pending one is `admission`'s.
"""

from collections.abc import Sequence

from unisd_operator.api.names import Role
from unisd_operator.api.status import ACTIVE, ENDED, Component, Failure
from unisd_operator.observed import ChildState, PodState
from unisd_operator.planning.needs import grades_while_training
from unisd_operator.status.attempts import away_from_lost, fail, interrupt, stopped
from unisd_operator.status.deadlines import stands_still, too_long
from unisd_operator.status.failures import failure, job_failure, pod_failure, refused
from unisd_operator.status.placement import placed
from unisd_operator.status.results import left, with_answer, with_result, with_rollout
from unisd_operator.status.turn import Turn, but
from unisd_operator.status.waiting import queued, waiting


def advance(turn: Turn, arm: Component) -> Component:
    """One component after this turn, as far as its own children decide."""
    if arm.phase in ACTIVE:
        arm = _watch(turn, arm)
    elif arm.phase in ("Queued", "Suspended"):
        arm = away_from_lost(turn, with_result(turn, arm, left(turn.pods(arm, "train"))))
    if turn.spec.suspend and arm.phase not in (*ENDED, "Suspended"):
        return but(interrupt(turn, arm, "Suspended", None), rollout=None)
    if arm.phase == "Suspended" and not turn.spec.suspend:
        return but(arm, phase="Pending", retry_time=None)
    return arm


def admitted(workload: ChildState) -> bool:
    """Whether Kueue lets a component hold its pods."""
    return workload.conditions.get("Admitted") == "True" and workload.conditions.get("Evicted") != "True"


def _watch(turn: Turn, arm: Component) -> Component:
    """A component that holds its slot: further, done, failed, interrupted, or why it waits."""
    arm = with_rollout(turn, arm)
    if arm.phase != "Evaluating":
        arm = _training(turn, arm)
    if arm.phase == "Evaluating":
        arm = _evaluation(turn, arm)
    if (found := _failure(turn, arm)) is not None:
        arm = fail(turn, arm, found, final=found.reason == "DeadlineExceeded" or None)
    elif _evicted(turn, arm):
        arm = interrupt(turn, arm, "Queued", queued(turn, turn.workload(arm)))
    else:
        arm = placed(turn, arm)
    return arm if arm.phase in ACTIVE else but(arm, rollout=None)


def _evicted(turn: Turn, arm: Component) -> bool:
    """Whether Kueue takes back what it gave."""
    workload = turn.workload(arm)
    wanted = arm.phase in ACTIVE and turn.spec.queue_name is not None
    return wanted and workload is not None and not admitted(workload)


def _training(turn: Turn, arm: Component) -> Component:
    """A training that ended well goes on to evaluation."""
    arm = with_answer(turn, arm)
    job = turn.job(arm, "train")
    if job is None or not job.succeeded:
        return arm
    arm = with_result(turn, arm, left(turn.pods(arm, "train")))
    start = arm.start_time or turn.now
    return but(arm, phase="Evaluating", trained_time=turn.now, start_time=start, waiting=None)


def _evaluation(turn: Turn, arm: Component) -> Component:
    """An evaluation whose scores were read is the end; scores that nobody read are read again from the claim."""
    job = turn.job(arm, "evaluate")
    if job is None or not job.succeeded:
        return arm
    pods = turn.pods(arm, "evaluate")
    result = left([*pods, *turn.pods(arm, "results")])
    arm = with_result(turn, arm, result)
    if result is not None and arm.evaluations:
        return but(stopped(turn, arm), phase="Succeeded", completion_time=turn.now, waiting=None)
    if not all(pod.ended for pod in pods):
        return arm
    said = "the evaluation's pod was gone before its scores were read: a small Job reads them from the claim"
    return but(arm, waiting=waiting("ResultsUnread", said))


def _failure(turn: Turn, arm: Component) -> Failure | None:
    """Why the attempt under way cannot go on; None while it can."""
    if arm.phase not in ACTIVE:
        return None
    roles: tuple[Role, ...] = ("evaluate", "results") if arm.phase == "Evaluating" else ("train",)
    pods = turn.pods(arm, *roles)
    return (
        refused(turn, arm)
        or too_long(turn, arm)
        or pod_failure(turn, [*pods, *turn.pods(arm, "rollout"), *_graders(turn, arm)])
        or _of_jobs(turn, arm, roles)
        or _no_scores(turn, arm, pods)
        or stands_still(turn, arm)
    )


def _graders(turn: Turn, arm: Component) -> Sequence[PodState]:
    """Graders that the component waits for in its phase."""
    return turn.graders if arm.phase == "Evaluating" or grades_while_training(turn.spec) else []


def _of_jobs(turn: Turn, arm: Component, roles: Sequence[Role]) -> Failure | None:
    found = (job_failure(turn, turn.job(arm, role), turn.pods(arm, role)) for role in roles)
    return next(filter(None, found), None)


def _no_scores(turn: Turn, arm: Component, pods: Sequence[PodState]) -> Failure | None:
    """An evaluation that ended well and told no score, not even when it was asked again."""
    again = turn.job(arm, "results")
    told = left(pods)
    unread = arm.waiting is not None and arm.waiting.reason == "ResultsUnread"
    if not unread or not (told is not None or (again is not None and again.succeeded)):
        return None
    return failure("NonZeroExit", "its evaluation ended well but left no scores")
