"""What the operator sees of a run's children: slim frozen values, made by `cluster.observe`, read by pure code.

Only what a decision needs is kept: with thousands of children, whole objects would not fit the operator's memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from unisd_operator.api.names import Role

LOST_AFTER = timedelta(seconds=30)
"""A pod that is there so long after its grace has passed is on a node that does not answer."""


@dataclass(frozen=True, slots=True)
class ChildState:
    """A child other than a pod."""

    kind: str
    name: str
    uid: str
    role: Role
    arm: str | None
    attempt: int
    hash: str
    created: datetime
    deleting: bool = False
    spec: Mapping[str, Any] | None = None
    """Kept for what is mutable alone (Service, NetworkPolicy, PodDisruptionBudget), to see drift, and for a claim,
    whose size and class stay as they were made."""
    replicas: int = 0
    """Deployment: wanted replicas."""
    ready: int = 0
    """Deployment: ready replicas; Job: ready pods."""
    succeeded: bool = False
    """Job: condition Complete (or SuccessCriteriaMet)."""
    failed: bool = False
    """Job: condition Failed (or FailureTarget)."""
    message: str = ""
    """Job: the condition's message; Deployment: that of ReplicaFailure; claim: its phase; Workload: its newest."""
    conditions: Mapping[str, str] = field(default_factory=dict)
    """Workload and claim: condition type (claim: `Bound`) to status."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Workload: condition type to reason."""
    ended: datetime | None = None
    """Job: when it completed or failed."""
    refusal: str = ""
    """Job: the newest FailedCreate Event of its controller; Deployment: the message of ReplicaFailure."""


@dataclass(frozen=True, slots=True)
class ContainerState:
    """One container of a pod, init containers included."""

    name: str
    image: str = ""
    ready: bool = False
    running: bool = False
    restarts: int = 0
    waiting_reason: str = ""
    waiting_message: str = ""
    exit_code: int | None = None
    """Of the current or, while it waits to be restarted, the last termination."""
    terminated_reason: str = ""
    terminated_message: str = ""
    """The termination message: JSON of docs/operator/design.md, "Termination message"."""
    ended: datetime | None = None


@dataclass(frozen=True, slots=True)
class PodState:
    """One pod."""

    name: str
    uid: str
    role: Role
    arm: str | None
    attempt: int
    phase: str
    """Pending, Running, Succeeded, Failed or Unknown."""
    created: datetime
    node: str = ""
    ip: str = ""
    reason: str = ""
    """status.reason, e.g. Evicted."""
    message: str = ""
    scheduled: bool = False
    scheduler_message: str = ""
    event: str = ""
    """What was said last of a pod that takes long to start on its node."""
    ready: bool = False
    deleting_since: datetime | None = None
    grace_seconds: int = 30
    disruption_reason: str = ""
    """Reason of the condition DisruptionTarget, e.g. PreemptionByScheduler, DeletionByTaintManager."""
    disruption_message: str = ""
    gpus: int = 0
    index: int = 0
    """Completion index of an Indexed Job's pod: 0 is the pod of rank 0."""
    containers: tuple[ContainerState, ...] = ()
    started: datetime | None = None

    @property
    def ended(self) -> bool:
        """Whether none of its containers runs any more, nor will."""
        return self.phase in ("Succeeded", "Failed")

    @property
    def lost_at(self) -> datetime | None:
        """When a deleted pod that is still there has outlived its grace."""
        if self.deleting_since is None:
            return None
        return self.deleting_since + timedelta(seconds=self.grace_seconds) + LOST_AFTER

    def is_lost(self, now: datetime) -> bool:
        """Whether a deleted pod outlives its grace: its node does not answer."""
        return self.lost_at is not None and now >= self.lost_at


@dataclass(frozen=True, slots=True)
class Answer:
    """The newest answer of a trainer's or stage's `/progress`, or why there is none."""

    time: datetime
    values: Mapping[str, Any] | None = None
    """The JSON of docs/operator/design.md, "Progress"; None if there was no answer."""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything seen of one run's children at one moment."""

    time: datetime | None = None
    """When it was seen: tells whether a Terminating pod outlives its grace."""
    children: tuple[ChildState, ...] = ()
    pods: tuple[PodState, ...] = ()
    answers: Mapping[str, Answer] = field(default_factory=dict)
    """By arm name, or stage name for shared stages."""
    log_tails: Mapping[str, str] = field(default_factory=dict)
    """By `pod/container`, for failed containers; masked."""
    kueue: bool = False
    """Whether Kueue's Workload kind is installed."""
    foreign_claim: bool = False
    """Whether a claim of the planned name exists that is not this run's."""
    claim_modes: tuple[str, ...] = ()
    """Access modes of the existing claim that the run was given; none while that is not there."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Arm (or stage) name → the API server's message that refused to apply one of its children."""

    def child(self, kind: str, name: str) -> ChildState | None:
        """The child of this kind and name, if it is there."""
        return next((child for child in self.children if child.kind == kind and child.name == name), None)

    def of(self, arm: str | None, role: Role | None = None) -> "tuple[ChildState, ...]":
        """Children of one arm (None: shared ones), of one role if given."""
        return tuple(c for c in self.children if c.arm == arm and (role is None or c.role == role))

    def pods_of(self, arm: str | None, role: Role | None = None) -> "tuple[PodState, ...]":
        """Pods of one arm (None: shared ones), of one role if given."""
        return tuple(p for p in self.pods if p.arm == arm and (role is None or p.role == role))

    def has_stopped(self, arm: str) -> bool:
        """Whether no pod of an arm runs, and nothing is left that would make one."""
        makers = (child for child in self.of(arm) if child.kind in ("Deployment", "Job"))
        return all(child.succeeded or child.failed for child in makers) and all(p.ended for p in self.pods_of(arm))
