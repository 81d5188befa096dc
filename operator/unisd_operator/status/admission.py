"""Which pending components may begin: shared stages, retry times, slots and Kueue. Pure; called by `derive`."""

from collections.abc import Sequence

from unisd_operator.api.status import ACTIVE, ENDED, Component, Stage, Waiting
from unisd_operator.planning.config_map import config_hash
from unisd_operator.planning.images import images
from unisd_operator.status.arms import admitted
from unisd_operator.status.attempts import fail
from unisd_operator.status.failures import failure
from unisd_operator.status.turn import Turn, but, cut, leftovers
from unisd_operator.status.waiting import foreign_claim, queued, waiting

HOLDING: frozenset[str] = ACTIVE | {"Queued"}
"""Phases that count against `parallelism`."""


def first_components(turn: Turn) -> list[Component]:
    """Every arm of the run, none begun."""
    return [
        Component(
            name=arm.name,
            component=arm.component,
            seed=arm.seed,
            config_hash=config_hash(turn.run, arm.name),
        )
        for arm in turn.arms.values()
    ]


def admit(turn: Turn, stages: Sequence[Stage], components: Sequence[Component]) -> list[Component]:
    """The components, in manifest order, with those begun that may begin now."""
    components = _stop_rest(turn, components)
    free = turn.spec.parallelism - sum(arm.phase in HOLDING for arm in components)
    found = []
    for arm in components:
        after = _start(turn, stages, arm, free)
        free -= arm.phase == "Pending" and after.phase in HOLDING
        found.append(after)
    return found


def _stop_rest(turn: Turn, components: Sequence[Component]) -> list[Component]:
    """Under FailFast the first component that failed ends the others."""
    first = next((arm for arm in components if arm.phase == "Failed"), None)
    if first is None or turn.spec.failure_policy != "FailFast":
        return list(components)
    stopped = failure("FailFast", f"stopped because {first.name} failed and spec.failurePolicy is FailFast")
    return [arm if arm.phase in ENDED else fail(turn, but(arm, rollout=None), stopped) for arm in components]


def _start(turn: Turn, stages: Sequence[Stage], arm: Component, free: int) -> Component:
    """A component that has not begun, or waits for Kueue: begun, if nothing stands against it."""
    if arm.phase == "Queued":
        return _from_queue(turn, arm)
    if arm.phase != "Pending":
        return arm
    needed = _needed(turn, stages, arm)
    if (broken := next((stage for stage in needed if stage.phase == "Failed"), None)) is not None:
        return _fail_with(turn, arm, broken)
    held = _held(turn, needed, arm, free)
    if held is not None:
        return but(arm, waiting=held)
    if turn.spec.queue_name:
        return but(arm, phase="Queued", retry_time=None, waiting=queued(turn, None))
    return _begin(turn, arm)


def _needed(turn: Turn, stages: Sequence[Stage], arm: Component) -> list[Stage]:
    """The shared stages whose results the component reads."""
    reads_texts = turn.arms[arm.name].needs_texts
    return [stage for stage in stages if stage.name == "prepare" or (stage.name == "contexts" and reads_texts)]


def _fail_with(turn: Turn, arm: Component, stage: Stage) -> Component:
    """A component whose shared stage failed cannot begin."""
    cause = stage.failure or failure("NonZeroExit", "it failed")
    told = cause.model_copy(
        update={"message": cut(f"stage {stage.name} failed: {cause.message}", 2048), "log_tail": None}
    )
    return fail(turn, arm, told, final=True)


def _held(turn: Turn, needed: Sequence[Stage], arm: Component, free: int) -> Waiting | None:
    """What a pending component waits for; None if it may begin."""
    if arm.retry_time is not None and turn.now < arm.retry_time:
        return arm.waiting
    undone = [stage.name for stage in needed if stage.phase != "Succeeded"]
    if undone:
        return waiting("WaitingForStages", f"waits for {', '.join(undone)}")
    return foreign_claim(turn) or _no_room(turn, arm, free)


def _no_room(turn: Turn, arm: Component, free: int) -> Waiting | None:
    """What keeps a component from its slot that has everything else."""
    if rest := leftovers(turn, arm):
        return waiting("WaitingForPods", f"waits for the end of {', '.join(rest[:4])} of the attempt before")
    if free < 1:
        return waiting("WaitingForSlot", f"spec.parallelism is {turn.spec.parallelism}: waits for another component")
    if turn.spec.queue_name and not turn.observed.kueue:
        return queued(turn, None)
    return None


def _from_queue(turn: Turn, arm: Component) -> Component:
    """A component that Kueue has admitted begins, once nothing is left of what Kueue evicted."""
    workload = turn.workload(arm)
    if workload is None or not admitted(workload) or leftovers(turn, arm):
        return but(arm, waiting=queued(turn, workload))
    return _begin(turn, arm)


def _begin(turn: Turn, arm: Component) -> Component:
    """The component with its slot; the images of the attempt are settled here."""
    progress = arm.progress.model_copy(update={"last_updated_time": None}) if arm.progress else None
    to_train = turn.arms[arm.name].trains and arm.trained_time is None
    return but(
        arm,
        phase="Starting" if to_train else "Evaluating",
        admitted_time=turn.now,
        retry_time=None,
        waiting=None,
        progress=progress,
        images=images(turn.spec, turn.settings, {}),
    )
