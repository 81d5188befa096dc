"""One turn's facts, as every part of the derivation reads them; and the change of a frozen value."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, TypeVar

from unisd.config.resolve import Arm
from unisd.config.run import RunSpec
from unisd_operator.api.names import Role
from unisd_operator.api.resource import RunResource
from unisd_operator.api.status import Component, Stage, Status
from unisd_operator.observed import ChildState, Observed, PodState
from unisd_operator.settings import Settings

Work = TypeVar("Work", Stage, Component)
"""What has attempts: a shared stage or a component."""
Seen = TypeVar("Seen", ChildState, PodState)
SERVERS: frozenset[Role] = frozenset({"rollout", "grader"})
"""Roles whose pods are replaced by their Deployment when they end."""
_SHARED_ROLES: tuple[Role, ...] = ("storage", "grader")
"""Children of no component that every component needs."""
_STAGE_ROLES: tuple[Role, ...] = (*_SHARED_ROLES, "config", "rollout")
"""Children that stages have beside their Jobs."""


@dataclass(frozen=True)
class Turn:
    """The run, what is seen of it, and when."""

    run: RunResource
    observed: Observed
    settings: Settings
    now: datetime

    @property
    def spec(self) -> RunSpec:
        """The specification of a valid run."""
        assert self.run.run is not None, "an invalid run is not derived further"
        return self.run.run.spec

    @cached_property
    def arms(self) -> dict[str, Arm]:
        """Every component at every seed, resolved, by name."""
        return {arm.name: arm for arm in self.run.arms}

    def job(self, work: Stage | Component, role: Role) -> ChildState | None:
        """The Job of the attempt under way."""
        return self._child("Job", work, role)

    def deployment(self, work: Stage | Component) -> ChildState | None:
        """The rollout Deployment of the attempt under way."""
        return self._child("Deployment", work, "rollout")

    def workload(self, arm: Component) -> ChildState | None:
        """The Kueue Workload of the attempt under way."""
        found = (c for c in self.all_children(arm) if c.kind == "Workload" and c.attempt == arm.attempt)
        return next((child for child in found if not child.deleting), None)

    def pods(self, work: Stage | Component, *roles: Role) -> list[PodState]:
        """Pods of the attempt under way, of these roles."""
        return [pod for pod in self.all_pods(work) if pod.role in roles and pod.attempt == work.attempt]

    @property
    def graders(self) -> list[PodState]:
        """Pods that run generated code for all components."""
        return [pod for pod in self._pods_by_arm.get(None, []) if pod.role == "grader"]

    def all_pods(self, work: Stage | Component) -> list[PodState]:
        """Pods of every attempt of a component; of a stage, those of all stages."""
        return self._pods_by_arm.get(_arm(work), [])

    def all_children(self, work: Stage | Component) -> list[ChildState]:
        """Other children of every attempt of a component; of a stage, those of all stages."""
        return self._children_by_arm.get(_arm(work), [])

    def refusal(self, work: Stage | Component) -> str:
        """What the API server said when it refused an object that this work needs; empty if it did not."""
        shared = _SHARED_ROLES if isinstance(work, Component) else _STAGE_ROLES
        refused = self.observed.refused
        return next((refused[name] for name in (work.name, *shared) if name in refused), "")

    def _child(self, kind: str, work: Stage | Component, role: Role) -> ChildState | None:
        found = (c for c in self.all_children(work) if c.kind == kind and c.role == role)
        return next((child for child in found if child.attempt == work.attempt), None)

    @cached_property
    def _pods_by_arm(self) -> dict[str | None, list[PodState]]:
        return _by_arm(self.observed.pods)

    @cached_property
    def _children_by_arm(self) -> dict[str | None, list[ChildState]]:
        return _by_arm(self.observed.children)


def _arm(work: Stage | Component) -> str | None:
    return work.name if isinstance(work, Component) else None


def _by_arm(seen: Iterable[Seen]) -> dict[str | None, list[Seen]]:
    found: dict[str | None, list[Seen]] = {}
    for one in seen:
        found.setdefault(one.arm, []).append(one)
    return found


def works(status: Status) -> list[Stage | Component]:
    """All that has attempts, stages first."""
    return [*status.stages, *status.components]


def but(value: Work, **changes: Any) -> Work:
    """The value with some fields changed."""
    return value.model_copy(update=changes)


def cut(text: str, length: int) -> str:
    """The text, at most `length` characters of it, as fields of status allow."""
    return text if len(text) <= length else text[: length - 1] + "…"


def leftovers(turn: Turn, arm: Component) -> Sequence[str]:
    """Names of what is left of a component's earlier pods and their makers, of any attempt."""
    makers = [child.name for child in turn.all_children(arm) if child.kind in ("Job", "Deployment")]
    return [pod.name for pod in turn.all_pods(arm)] + makers
