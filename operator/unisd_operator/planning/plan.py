"""`plan`: which objects a run wants now, and which it wants gone. Pure; called by `reconcile`.

The status says how far the run is (`unisd_operator.status` decides that); this module only turns phases into objects.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unisd_operator.api.resource import RunResource
from unisd_operator.observed import ChildState, Observed, PodState
from unisd_operator.settings import Settings

Object = Mapping[str, Any]


@dataclass(frozen=True)
class Plan:
    """What to do in the cluster, in order."""

    apply: tuple[Object, ...] = ()
    """Objects to apply: missing ones, and mutable ones that differ."""
    delete: tuple[ChildState, ...] = ()
    """Children that are not wanted any more."""
    force_delete: tuple[PodState, ...] = ()
    """Pods of lost nodes to delete with grace 0."""
    release: tuple[ChildState, ...] = ()
    """Workloads whose quota is to be released: their pods have stopped."""


def plan(run: RunResource, observed: Observed, settings: Settings, secret: bytes) -> Plan:
    """What a run wants now.

    Args:
        run: a valid run with the status that was derived from `observed`.
        observed: its children.
        settings: of this installation.
        secret: key that API keys of rollout servers are derived from.
    """
    raise NotImplementedError
