"""Whether a component has all its pods, and how long it may wait for them. Pure; called by `arms`.

A component gets a place whole or not at all: a trainer without its rollout server would hold a GPU for nothing, and two
such components could keep each other waiting for ever.
"""

from dataclasses import dataclass

from unisd.config.serving import evaluates_on_servers, trains_on_servers
from unisd_operator.api.names import Role
from unisd_operator.api.status import Component, Waiting
from unisd_operator.observed import PodState
from unisd_operator.status.attempts import fail, release
from unisd_operator.status.deadlines import not_placed
from unisd_operator.status.failures import failure
from unisd_operator.status.turn import Turn, but
from unisd_operator.status.waiting import is_running, not_let_in, not_started, waiting


@dataclass(frozen=True)
class _Pods:
    """The pods that a phase needs."""

    role: Role
    workers: list[PodState]
    workers_wanted: int
    servers: list[PodState]
    servers_wanted: int

    @property
    def all(self) -> list[PodState]:
        return [*self.workers, *self.servers]

    @property
    def wanted(self) -> int:
        return self.workers_wanted + self.servers_wanted

    @property
    def complete(self) -> bool:
        """Whether the workers run and the servers have nodes; servers may still load the model."""
        run = len(self.workers) >= self.workers_wanted and all(map(is_running, self.workers))
        return run and sum(pod.scheduled for pod in self.servers) >= self.servers_wanted

    @property
    def scheduled(self) -> bool:
        return len(self.all) >= self.wanted and all(pod.scheduled for pod in self.all)


def placed(turn: Turn, arm: Component) -> Component:
    """A component without trouble: its pods run, or it waits for them, or gives them back."""
    if arm.phase not in ("Starting", "Evaluating"):
        return arm
    if arm.waiting is not None and arm.waiting.reason == "ResultsUnread":
        return _reading(turn, arm, arm.waiting)
    pods = _pods(turn, arm)
    if pods.complete:
        phase = "Training" if arm.phase == "Starting" else arm.phase
        return but(arm, phase=phase, start_time=arm.start_time or turn.now, waiting=None)
    why = _why(turn, arm, pods)
    if not _given_up(turn, arm, pods):
        return but(arm, waiting=why)
    if pods.scheduled:
        return fail(turn, arm, failure("DeadlineExceeded", f"its pods do not start: {why.message}"), final=False)
    return release(turn, arm, why)


def _reading(turn: Turn, arm: Component, unread: Waiting) -> Component:
    """A component whose scores a small Job reads from the claim, with why that does not run; not for ever."""
    job, pods = turn.job(arm, "results"), turn.pods(arm, "results")
    if job is None or (pods and all(map(is_running, pods))):
        return arm
    why = not_started(turn, [job], pods, wanted=1)
    if not_placed(turn, job.created):
        what = f"the Job that reads its scores does not start: {why.message}"
        return fail(turn, arm, failure("DeadlineExceeded", what), final=False)
    return but(arm, waiting=waiting(unread.reason, f"{unread.message}; {why.message}"))


def _pods(turn: Turn, arm: Component) -> _Pods:
    evaluating = arm.phase == "Evaluating"
    role: Role = "evaluate" if evaluating else "train"
    served = evaluates_on_servers if evaluating else trains_on_servers
    servers = turn.spec.rollout.replicas if served(turn.spec, turn.arms[arm.name]) else 0
    workers = 1 if evaluating else turn.spec.trainer.num_nodes
    return _Pods(role, turn.pods(arm, role), workers, turn.pods(arm, "rollout"), servers)


def _why(turn: Turn, arm: Component, pods: _Pods) -> Waiting:
    """What the component waits for."""
    refusal = turn.refusal(arm)
    if refusal:
        return not_let_in(refusal)
    return not_started(turn, [turn.job(arm, pods.role), turn.deployment(arm)], pods.all, pods.wanted)


def _given_up(turn: Turn, arm: Component, pods: _Pods) -> bool:
    """Whether the wait has been too long.

    An evaluation that once ran is not given up because a server is replaced: there each pod has its own clock.
    """
    if arm.phase == "Starting":
        return not_placed(turn, arm.admitted_time)
    late = [pod for pod in pods.all if not_placed(turn, pod.created)]
    if any(not pod.scheduled or (pod.role == pods.role and not is_running(pod)) for pod in late):
        return True
    job = turn.job(arm, pods.role)
    refused = bool(turn.refusal(arm)) or (job is not None and bool(job.refusal))
    since = max(filter(None, (arm.admitted_time, arm.trained_time)), default=None)
    return refused and not pods.workers and not_placed(turn, since)
