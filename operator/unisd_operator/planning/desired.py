"""Phases to objects: which children a run wants in the phases that its status says. Pure; called by `plan`.

The table of docs/operator/design.md, "Phases".
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from unisd.config.serving import trains_on_servers
from unisd.stages import CLOSING
from unisd_operator.api.names import Object
from unisd_operator.api.resource import RunResource
from unisd_operator.api.status import ACTIVE, Component, Stage
from unisd_operator.observed import Observed
from unisd_operator.planning import needs, stage_job, storage, trainer
from unisd_operator.planning.budget import budget
from unisd_operator.planning.config_map import config_map
from unisd_operator.planning.grader import grader_objects
from unisd_operator.planning.images import images
from unisd_operator.planning.metadata import Attempt
from unisd_operator.planning.rollout import rollout_objects
from unisd_operator.planning.workload import workload
from unisd_operator.settings import Settings


@dataclass(frozen=True)
class Wanted:
    """What is to be there."""

    objects: Sequence[Object] = ()
    """To be made where missing."""
    if_live: Sequence[Object] = ()
    """To be kept as planned where they are there, but not made."""
    keep: Sequence[tuple[str, str]] = ()
    """Kind and name of what is kept as it is where it is there; Jobs only once they have ended."""

    def __add__(self, other: "Wanted") -> "Wanted":
        return Wanted([*self.objects, *other.objects], [*self.if_live, *other.if_live], [*self.keep, *other.keep])


@dataclass(frozen=True)
class Desire:
    """Who asks: the run, what is seen of it, the installation, the key of API keys."""

    run: RunResource
    observed: Observed
    settings: Settings
    key: bytes


def desired(desire: Desire) -> Wanted:
    """Everything that the run wants now and the installation allows."""
    wanted = _desired(desire)
    if desire.settings.network.enabled:
        return wanted
    return replace(wanted, objects=[item for item in wanted.objects if item["kind"] != "NetworkPolicy"])


def _desired(desire: Desire) -> Wanted:
    status = desire.run.status
    if status.children_expired:
        kept = not storage.goes_with_children(desire.run)
        return _claim(desire, made=False) if kept else Wanted()
    works: Iterable[Stage | Component] = (*status.stages, *status.components)
    wanted = _claim(desire, made=any(work.phase in ACTIVE for work in works)) + _grader(desire)
    for stage in status.stages:
        wanted += _of_stage(desire, stage)
    for component in status.components:
        wanted += _of_component(desire, component)
    return wanted


def _of_stage(desire: Desire, stage: Stage) -> Wanted:
    """A shared stage by its phase."""
    attempt = _attempt(desire, stage)
    match stage.phase:
        case "Starting" | "Running":
            return Wanted([config_map(attempt), *_stage_objects(desire, attempt)])
        case "Suspended":
            return Wanted(keep=_kept(attempt))
        case "Succeeded" | "Failed":
            return Wanted(keep=_kept(attempt, stage.name))
        case "Pending":
            return Wanted()


def _of_component(desire: Desire, component: Component) -> Wanted:
    """A component by its phase."""
    attempt = _attempt(desire, component)
    match component.phase:
        case "Queued":
            return Wanted(_queued(desire, attempt))
        case "Starting" | "Training":
            return Wanted([config_map(attempt), *_queued(desire, attempt), *_training(desire, attempt)])
        case "Evaluating":
            evaluation = _evaluation(desire, attempt, component)
            return Wanted([config_map(attempt), *_queued(desire, attempt), *evaluation], keep=_kept(attempt, "train"))
        case "Suspended":
            # Kueue gives out the quota of an inactive Workload at once: it is active until its pods have stopped.
            running = not desire.observed.has_stopped(component.name)
            return Wanted(if_live=_queued(desire, attempt, active=running), keep=_kept(attempt))
        case "Succeeded" | "Failed":
            kept = _kept(attempt, "train", "evaluate", "results")
            return Wanted(if_live=_queued(desire, attempt), keep=kept)
        case "Pending":
            return Wanted()


def _attempt(desire: Desire, work: Stage | Component) -> Attempt:
    if isinstance(work, Component):
        started, arm = work.images, work.name
    else:
        block = "evaluation" if work.name in CLOSING else "preparation"
        started, arm = ({block: work.image} if work.image else {}), None
    chosen = images(desire.run.spec, desire.settings, started)
    one_node = storage.on_one_node(desire.run, desire.observed)
    return Attempt(desire.run, desire.settings, work.name, arm, work.attempt, chosen, one_node)


def _stage_objects(desire: Desire, attempt: Attempt) -> Sequence[Object]:
    match attempt.work:
        case "prepare":
            return stage_job.prepare_objects(attempt)
        case "contexts":
            servers = rollout_objects(attempt, desire.key) if needs.asks_servers(desire.run, None) else []
            return [*servers, *stage_job.contexts_objects(attempt)]
        case "push":
            return stage_job.push_objects(attempt)
        case _:
            return stage_job.report_objects(attempt)


def _training(desire: Desire, attempt: Attempt) -> Sequence[Object]:
    """A training with its servers: made together, never one after the other."""
    arm, spec = needs.arm_named(desire.run, attempt.arm), desire.run.spec
    if not arm.trains:
        return []
    served = trains_on_servers(spec, arm)
    servers = rollout_objects(attempt, desire.key) if served else []
    budgets = [budget(attempt, "train", spec.trainer.num_nodes)]
    budgets += [budget(attempt, "rollout", spec.rollout.replicas)] if served else []
    wanted = budgets if desire.settings.pod_disruption_budgets.enabled else []
    return [*servers, *wanted, *trainer.trainer_objects(attempt)]


def _evaluation(desire: Desire, attempt: Attempt, component: Component) -> Sequence[Object]:
    """An evaluation with its servers, the training's own if it had any."""
    servers = rollout_objects(attempt, desire.key) if needs.asks_servers(desire.run, attempt.arm) else []
    unread = component.waiting is not None and component.waiting.reason == "ResultsUnread"
    again = stage_job.results_objects(attempt) if unread else []
    return [*servers, *stage_job.evaluate_objects(attempt), *again]


def _queued(desire: Desire, attempt: Attempt, active: bool = True) -> Sequence[Object]:
    if desire.run.spec.queue_name is None or not desire.observed.kueue:
        return []
    return [workload(attempt, needs.arm_named(desire.run, attempt.arm), active)]


def _claim(desire: Desire, made: bool) -> Wanted:
    if not storage.makes_claim(desire.run):
        return Wanted()
    claim = [storage.claim(desire.run, desire.observed, desire.settings)]
    return Wanted(claim) if made else Wanted(if_live=claim)


def _grader(desire: Desire) -> Wanted:
    """The grader while a component is under way or contexts are made: not made anew for each of them."""
    spec, status = desire.run.spec, desire.run.status
    contexts = [stage for stage in status.stages if stage.name == "contexts"]
    phases = [*(stage.phase for stage in contexts), *(arm.phase for arm in status.components)]
    asked = any(phase in ACTIVE for phase in phases)
    if not (asked and needs.uses_grader(spec)):
        return Wanted()
    chosen = images(spec, desire.settings, {})
    return Wanted(grader_objects(Attempt(desire.run, desire.settings, "grader", None, 1, chosen)))


def _kept(attempt: Attempt, *jobs: str) -> list[tuple[str, str]]:
    """The manifest of an attempt, and those of its Jobs that have ended."""
    return [("ConfigMap", attempt.name("config")), *(("Job", attempt.name(job)) for job in jobs)]
