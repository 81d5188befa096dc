"""Components from phase to phase: what their Jobs and pods mean for each. Pure; called by `derive`."""

from collections.abc import Sequence

from unisd.config.presets import method_of
from unisd_operator.api.names import Role
from unisd_operator.api.status import ENDED, Component, Failure
from unisd_operator.observed import ChildState, PodState
from unisd_operator.status.attempts import fail, interrupt, release, stopped
from unisd_operator.status.deadlines import ACTIVE, not_placed, stands_still, too_long
from unisd_operator.status.failures import failure, job_failure, pod_failure, refused
from unisd_operator.status.results import left, with_answer, with_result, with_rollout
from unisd_operator.status.turn import Turn, but
from unisd_operator.status.waiting import is_running, not_let_in, not_started, queued, waiting


def advance(turn: Turn, arm: Component) -> Component:
    """One component after this turn, as far as its own children decide. Starting a pending one is `admission`'s."""
    if arm.phase in ACTIVE:
        arm = _watch(turn, arm)
    elif arm.phase == "Suspended":
        arm = _last_words(turn, arm)
    if turn.spec.suspend and arm.phase not in (*ENDED, "Suspended"):
        return but(interrupt(turn, arm, "Suspended", None), rollout=None)
    if arm.phase == "Suspended" and not turn.spec.suspend:
        return but(arm, phase="Pending", retry_time=None)
    return arm


def trains(turn: Turn, arm: Component) -> bool:
    """Whether the component has a training; `raw` has none."""
    return _method(turn, arm) != "raw"


def _method(turn: Turn, arm: Component) -> str:
    return method_of(next(item.preset for item in turn.spec.components if item.name == arm.component))


def _servers_wanted(turn: Turn, arm: Component) -> int:
    """Rollout servers that an arm has in its phase."""
    spec = turn.spec.rollout
    at_training = arm.phase != "Evaluating" and _method(turn, arm) in ("sft", "ssd")
    return 0 if spec.engine != "vllm" or at_training else spec.replicas


def _watch(turn: Turn, arm: Component) -> Component:
    """A component that holds its slot: further, done, failed, interrupted, or why it waits."""
    arm = with_rollout(turn, arm)
    if arm.phase != "Evaluating":
        arm = _training(turn, arm)
    if arm.phase == "Evaluating":
        arm = _evaluation(turn, arm)
    if arm.phase in ENDED:
        return but(arm, rollout=None)
    if (found := _failure(turn, arm)) is not None:
        final = found.reason == "DeadlineExceeded" or None
        return but(fail(turn, arm, found, final), rollout=None)
    workload = turn.workload(arm)
    if turn.spec.queue_name and workload is not None and not admitted(workload):
        return but(interrupt(turn, arm, "Queued", queued(turn, workload)), rollout=None)
    return _placed(turn, arm)


def admitted(workload: ChildState) -> bool:
    """Whether Kueue lets a component hold its pods."""
    return workload.conditions.get("Admitted") == "True" and workload.conditions.get("Evicted") != "True"


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
    job, again = turn.job(arm, "evaluate"), turn.job(arm, "results")
    if job is None or not job.succeeded:
        return arm
    pods = turn.pods(arm, "evaluate")
    result = left([*pods, *turn.pods(arm, "results")])
    arm = with_result(turn, arm, result)
    if result is not None and arm.evaluations:
        return but(stopped(turn, arm), phase="Succeeded", completion_time=turn.now, waiting=None)
    if (again is not None and again.succeeded) or (result is not None and not arm.evaluations):
        lost = failure("NonZeroExit", f"its evaluation ended well but left no scores in {_names(pods)}")
        return fail(turn, arm, lost)
    if any(pod.phase not in ("Succeeded", "Failed") for pod in pods):
        return arm
    said = "the evaluation's pod was gone before its scores were read: a small Job reads them from the claim"
    return but(arm, waiting=waiting("ResultsUnread", said))


def _names(pods: Sequence[PodState]) -> str:
    return ", ".join(pod.name for pod in pods) or "any pod"


def _failure(turn: Turn, arm: Component) -> Failure | None:
    """Why the attempt under way cannot go on; None while it can."""
    if arm.phase not in ACTIVE:
        return None
    roles: tuple[Role, ...] = ("evaluate", "results") if arm.phase == "Evaluating" else ("train",)
    pods = turn.pods(arm, *roles)
    jobs = [turn.job(arm, role) for role in roles]
    gone = (job_failure(turn, job, pods) for job in jobs)
    found = pod_failure(turn, [*pods, *turn.pods(arm, "rollout", "grader")])
    late = refused(turn, arm) or too_long(turn, arm)
    return late or found or next(filter(None, gone), None) or stands_still(turn, arm)


def _placed(turn: Turn, arm: Component) -> Component:
    """A component without trouble: its pods run, or it waits for them, or gives them back."""
    if arm.phase == "Training" or (arm.waiting is not None and arm.waiting.reason == "ResultsUnread"):
        return arm
    role: Role = "evaluate" if arm.phase == "Evaluating" else "train"
    count = turn.spec.trainer.num_nodes if role == "train" else 1
    workers, servers = turn.pods(arm, role), turn.pods(arm, "rollout")
    servers_wanted = _servers_wanted(turn, arm)
    run = len(workers) >= count and all(map(is_running, workers))
    placed = len([pod for pod in servers if pod.scheduled]) >= servers_wanted
    if run and placed:
        start = arm.start_time or turn.now
        return but(arm, phase="Training" if role == "train" else arm.phase, start_time=start, waiting=None)
    pods = [*workers, *servers]
    refusal = turn.refusal(arm)
    makers = [turn.job(arm, role), turn.deployment(arm)]
    wanted = count + servers_wanted
    why = not_let_in(refusal) if refusal else not_started(turn, makers, pods, wanted)
    if not _given_up(turn, arm, workers, servers):
        return but(arm, waiting=why)
    all_placed = len(pods) >= wanted and all(pod.scheduled for pod in pods)
    if all_placed:
        late = failure("DeadlineExceeded", f"its pods do not start: {why.message}")
        return but(fail(turn, arm, late, final=False), rollout=None)
    return but(release(turn, arm, why), rollout=None)


def _given_up(turn: Turn, arm: Component, workers: Sequence[PodState], servers: Sequence[PodState]) -> bool:
    """Whether the wait for a place has been too long.

    An evaluation that once ran is not given up for a server that is replaced: each unplaced pod has its own clock.
    """
    if arm.phase != "Evaluating":
        return not_placed(turn, arm.admitted_time)
    since = max(filter(None, (arm.admitted_time, arm.trained_time)), default=None)
    unplaced = [pod for pod in (*workers, *servers) if not pod.scheduled]
    if unplaced:
        return any(not_placed(turn, pod.created) for pod in unplaced)
    waits = not workers or not all(map(is_running, workers))
    return waits and not_placed(turn, since)


def _last_words(turn: Turn, arm: Component) -> Component:
    """What a suspended component's trainer left when it stopped."""
    return with_result(turn, arm, left(turn.pods(arm, "train")))
