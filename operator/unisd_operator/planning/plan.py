"""`plan`: which objects a run wants now, and which it wants gone. Pure; called by `reconcile`.

The status says how far the run is (`unisd_operator.status` decides that); `desired` turns its phases into objects, and
`difference` compares them with what is there.
"""

from collections.abc import Callable
from dataclasses import dataclass

from unisd_operator.api.names import Object
from unisd_operator.api.resource import RunResource
from unisd_operator.api.status import ENDED, Component
from unisd_operator.observed import ChildState, Observed, PodState
from unisd_operator.planning.desired import Desire, desired
from unisd_operator.planning.difference import difference
from unisd_operator.settings import Settings


@dataclass(frozen=True)
class Plan:
    """What to do in the cluster, in order."""

    apply: tuple[Object, ...] = ()
    """Objects to apply: missing ones, and mutable ones that differ."""
    delete: tuple[ChildState, ...] = ()
    """Children that are not wanted any more, in order. A Secret among them was not seen but follows from its
    Deployment: it has no uid and may be gone."""
    force_delete: tuple[PodState, ...] = ()
    """Pods of lost nodes to delete with grace 0."""
    secrets: tuple[Object, ...] = ()
    """Secrets of attempts under way. They are never read, so they are applied again at each resync, not each turn."""
    release: tuple[ChildState, ...] = ()
    """Evicted Workloads whose quota is to be released: their pods have stopped."""
    pods_ready: tuple[ChildState, ...] = ()
    """Workloads to be told that all their pods run (condition PodsReady)."""
    finish: tuple[ChildState, ...] = ()
    """Workloads to be told that their component has ended (condition Finished)."""


def plan(run: RunResource, observed: Observed, settings: Settings, secret: bytes) -> Plan:
    """What a run wants now.

    Args:
        run: a run with the status that was derived from `observed`. An invalid one, or one that is being deleted, wants
            nothing, and its children are left alone.
        observed: its children.
        settings: of this installation.
        secret: key that API keys of rollout servers are derived from.
    """
    if run.deleting or run.run is None or observed.foreign_claim:
        return Plan()
    found = difference(desired(Desire(run, observed, settings, secret)), observed)
    return Plan(
        apply=found.apply,
        delete=found.delete,
        force_delete=_lost_pods(observed, settings),
        secrets=found.secrets,
        release=_workloads(run, observed, _evicted),
        pods_ready=_workloads(run, observed, _runs),
        finish=_workloads(run, observed, _ended),
    )


def _lost_pods(observed: Observed, settings: Settings) -> tuple[PodState, ...]:
    if observed.time is None or not settings.force_delete_lost_pods:
        return ()
    return tuple(pod for pod in observed.pods if pod.is_lost(observed.time))


_Question = Callable[[Component, ChildState, Observed], bool]


def _workloads(run: RunResource, observed: Observed, question: _Question) -> tuple[ChildState, ...]:
    """Workloads of attempts under way for which the answer is yes."""
    attempts = {component.name: component for component in run.status.components}
    found = []
    for child in observed.children:
        component = attempts.get(child.arm or "")
        if child.kind == "Workload" and not child.deleting and component and component.attempt == child.attempt:
            found += [child] if question(component, child, observed) else []
    return tuple(found)


def _evicted(component: Component, workload: ChildState, observed: Observed) -> bool:
    held = workload.conditions.get("QuotaReserved") == "True"
    return held and workload.conditions.get("Evicted") == "True" and observed.has_stopped(component.name)


def _runs(component: Component, workload: ChildState, _observed: Observed) -> bool:
    under_way = component.phase in ("Training", "Evaluating") and component.waiting is None
    known = workload.conditions.get("PodsReady") == "True" or workload.conditions.get("Admitted") != "True"
    return under_way and component.start_time is not None and not known


def _ended(component: Component, workload: ChildState, observed: Observed) -> bool:
    known = workload.conditions.get("Finished") == "True"
    return component.phase in ENDED and not known and observed.has_stopped(component.name)
