"""`status` of a SelfDistillRun: frozen values that `unisd_operator.status` derives and the CRD's schema is made from.

Field names are Kubernetes' own, and those of Kubeflow's KEP-2779 for progress. Times are RFC 3339 in UTC.
"""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from unisd.config.base import Config

RunPhase = Literal["Pending", "Preparing", "Running", "Reporting", "Suspended", "Succeeded", "Failed", "Invalid"]
ArmPhase = Literal["Pending", "Queued", "Starting", "Training", "Evaluating", "Suspended", "Succeeded", "Failed"]
StagePhase = Literal["Pending", "Starting", "Running", "Suspended", "Succeeded", "Failed"]
ENDED: frozenset[str] = frozenset({"Succeeded", "Failed"})
ACTIVE: frozenset[str] = frozenset({"Starting", "Running", "Training", "Evaluating"})
"""Phases of stages and components that hold pods."""

WaitingReason = Literal[
    "WaitingForStages",
    "WaitingForSlot",
    "BackOff",
    "Unschedulable",
    "QuotaExceeded",
    "Forbidden",
    "VolumeNotReady",
    "Queued",
    "WaitingForPods",
    "ResultsUnread",
]
FailureReason = Literal[
    "ImagePullBackOff",
    "ConfigError",
    "OOMKilled",
    "Evicted",
    "Preempted",
    "NodeLost",
    "DeadlineExceeded",
    "NoProgress",
    "StorageFull",
    "RolloutCrash",
    "CudaError",
    "NcclError",
    "CheckpointCorrupt",
    "PolicyDiverged",
    "PolicyCollapsed",
    "NonFinite",
    "BadInput",
    "InvalidSpec",
    "FailFast",
    "NonZeroExit",
]
Line = Annotated[str, Field(max_length=1024)]


class Condition(Config):
    """One condition, as metav1.Condition has it."""

    type: Line
    """Ready, Reconciling, Stalled, Complete, Failed, Suspended, WeightsStale or ProgressUnavailable."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    observed_generation: int
    """Generation of the spec that it was derived from."""
    last_transition_time: datetime
    """When `status` last changed."""
    reason: Line
    """One word for programs."""
    message: Annotated[str, Field(max_length=4096)] = ""
    """A sentence for people."""


class Failure(Config):
    """Why an attempt failed."""

    reason: FailureReason
    """One word; what to do about each: docs/operator/troubleshooting.md."""
    message: Annotated[str, Field(max_length=2048)]
    """What happened and the way out."""
    pod: Line | None = None
    """Pod that failed first."""
    container: Line | None = None
    """Container of that pod."""
    exit_code: int | None = None
    """Its exit code (docs/exit-codes.md)."""
    node: Line | None = None
    """Node that it ran on."""
    attempt: int | None = None
    """Attempt that failed."""
    log_tail: Annotated[str, Field(max_length=4096)] | None = None
    """The end of its log, with secrets masked."""


class Progress(Config):
    """How far a training is."""

    step: int = 0
    """Optimiser steps done."""
    total_steps: int = 0
    """Optimiser steps in all."""
    progress_percentage: int = 0
    """Share done, percent."""
    estimated_remaining_seconds: int | None = None
    """Time left at the pace so far, seconds."""
    metrics: Annotated[dict[str, float], Field(max_length=64)] = {}
    """Newest metrics of training: unisd/metrics/names.py."""
    last_updated_time: datetime | None = None
    """When `step` last moved."""


class Rollout(Config):
    """Rollout servers of a component."""

    ready: int = 0
    """Servers that are ready."""
    desired: int = 0
    """Servers that are wanted."""


class PolicyVersion(Config):
    """How far the rollout servers lag behind the trainer."""

    trainer: int = 0
    """Version that the trainer holds: its optimiser step."""
    rollout: int = 0
    """Oldest version that a ready server holds."""


class Checkpoint(Config):
    """The newest complete checkpoint."""

    step: int
    """Optimiser step."""
    time: datetime | None = None
    """When it was complete."""
    path: Line | None = None
    """Path in the claim."""


class Score(Config):
    """One score of a component on one task, with its 95 % interval."""

    task: Line
    """Task."""
    metric: Line
    """Metric, e.g. accuracy (0 to 1) or gold perplexity."""
    score: float
    """Value."""
    low: float | None = None
    """Lower end of the interval."""
    high: float | None = None
    """Upper end of the interval."""
    items: int | None = None
    """Rows scored."""


class Waiting(Config):
    """Why something has not started."""

    reason: WaitingReason
    """One word."""
    message: Annotated[str, Field(max_length=1024)] = ""
    """E.g. the scheduler's own words."""


class Stage(Config):
    """A stage that the run's components share: prepare, contexts, report or push."""

    name: Literal["prepare", "contexts", "report", "push"]
    """The stage."""
    phase: StagePhase = "Pending"
    """How far it is."""
    attempt: int = 1
    """Attempt under way, or the last one."""
    failed_attempts: int = 0
    """Attempts that count against backoffLimit."""
    admission_attempts: int = 0
    """Times that its pods were released because not all of them could be scheduled."""
    retry_time: datetime | None = None
    """When the next attempt may start."""
    admitted_time: datetime | None = None
    """When the attempt under way began to ask for pods."""
    start_time: datetime | None = None
    """When its pod first ran."""
    completion_time: datetime | None = None
    """When it ended, well or not."""
    image: Line | None = None
    """Image of the attempt."""
    progress: Progress | None = None
    """How far it is."""
    waiting: Waiting | None = None
    """Why it has not started."""
    failure: Failure | None = None
    """The newest failed attempt."""


class Component(Config):
    """One component at one seed: an arm of the experiment."""

    name: Line
    """Component and seed, e.g. `star-1`."""
    component: Line
    """Name of the component in the spec."""
    seed: int
    """Training seed."""
    phase: ArmPhase = "Pending"
    """How far it is."""
    attempt: int = 1
    """Attempt under way, or the last one."""
    failed_attempts: int = 0
    """Attempts that count against backoffLimit."""
    admission_attempts: int = 0
    """Times that its pods were released because not all of them could be scheduled."""
    retry_time: datetime | None = None
    """When the next attempt may start."""
    admitted_time: datetime | None = None
    """When the attempt under way got its slot: deadlines count from here."""
    active_seconds: float = 0.0
    """Time that earlier attempts held their slot, for activeDeadlineSeconds, seconds."""
    start_time: datetime | None = None
    """When its pods first all ran."""
    trained_time: datetime | None = None
    """When training ended well."""
    completion_time: datetime | None = None
    """When it ended, well or not."""
    config_hash: Line | None = None
    """Hash of its resolved configuration."""
    images: Annotated[dict[str, Line], Field(max_length=8)] = {}
    """Images of the attempt, by role."""
    revisions: Annotated[dict[str, Line], Field(max_length=8)] = {}
    """What model and data resolved to."""
    progress: Progress | None = None
    """How far training is."""
    rollout: Rollout | None = None
    """Its rollout servers."""
    policy_version: PolicyVersion | None = None
    """Weights of trainer and servers."""
    checkpoint: Checkpoint | None = None
    """Newest complete checkpoint."""
    evaluations: Annotated[list[Score], Field(max_length=64)] = []
    """Scores."""
    evaluations_left_out: int | None = None
    """Further scores, for which there was no room here; the report and `evaluation.json` in the claim have all."""
    gpu_seconds: float = 0.0
    """GPU time of its pods so far, seconds."""
    metered_time: datetime | None = None
    """Until when `gpuSeconds` counts."""
    waiting: Waiting | None = None
    """Why it has not started."""
    failure: Failure | None = None
    """The newest failed attempt."""


class Status(Config):
    """What the operator last saw of a run."""

    observed_generation: int = -1
    """Generation of the spec that this status is about; -1 until the operator has seen it."""
    phase: RunPhase = "Pending"
    """How far the run is."""
    reason: Line = ""
    """One word for the phase's cause, where there is one."""
    components_ended: Line = ""
    """Components that succeeded, of all, e.g. `3/4`."""
    progress_percentage: int = 0
    """Mean over all components, percent."""
    best: Line = ""
    """Best component by the first metric of the run's task, and its score."""
    start_time: datetime | None = None
    """When the run was first planned."""
    completion_time: datetime | None = None
    """When it ended."""
    children_expired: bool = False
    """Whether ttlSecondsAfterFinished has passed: nothing of the run is kept save the claim, as its policy says."""
    claim: Line | None = None
    """Claim that holds its data."""
    conditions: Annotated[list[Condition], Field(max_length=16)] = []
    """Conditions, one of each type."""
    stages: Annotated[list[Stage], Field(max_length=8)] = []
    """Shared stages."""
    components: Annotated[list[Component], Field(max_length=64)] = []
    """Components, each at each seed."""
