"""`plan`: which objects a run wants now, and which it wants gone. Pure; called by `reconcile`.

The status says how far the run is (`unisd_operator.status` decides that); this module only turns phases into objects.
"""

from dataclasses import dataclass

from unisd_operator.api.resource import RunResource
from unisd_operator.observed import ChildState, Observed, PodState
from unisd_operator.planning.metadata import Object
from unisd_operator.settings import Settings


@dataclass(frozen=True)
class Plan:
    """What to do in the cluster, in order."""

    apply: tuple[Object, ...] = ()
    """Objects to apply: missing ones, and mutable ones that differ."""
    delete: tuple[ChildState, ...] = ()
    """Children that are not wanted any more, in order. Secrets among them are not seen but known of: one without uid may
    be gone already."""
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
        run: a valid run with the status that was derived from `observed`.
        observed: its children.
        settings: of this installation.
        secret: key that API keys of rollout servers are derived from.
    """
    raise NotImplementedError
