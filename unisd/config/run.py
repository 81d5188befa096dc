"""The resource `SelfDistillRun`: one experiment, one model, one task, several components.

The same models make the cluster's schema, the local runner's input and the trainer's configuration.
"""

from typing import Annotated, Literal

from pydantic import Field

from unisd.config.base import Config, Name, NonNegativeInt, ObjectName, PositiveInt
from unisd.config.choices import ContextSource
from unisd.config.cluster import LabelValue, Outputs, Preparation, Rollout, Storage, Tracking, Trainer
from unisd.config.evaluation import Evaluation
from unisd.config.model import Model
from unisd.config.objective import Agreement, Clip, Contrastive, Divergence, Ema, Features
from unisd.config.presets import PresetName
from unisd.config.sampling import Sampling
from unisd.config.task import Contexts, Task
from unisd.config.training import Training, TrainingOverrides

DnsLabel = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
MAX_RUN_NAME = 40
MAX_COMPONENTS = 32
MAX_SEEDS = 16


class ContextsOverrides(Config):
    """What a component changes of the run's auxiliary contexts."""

    count: Annotated[int, Field(ge=1, le=16)] | None = None
    """Auxiliary contexts K of this component. Default: the run's."""
    source: ContextSource | None = None
    """Where this component's auxiliary contexts come from. Default: the preset's, else the run's."""
    demonstrations_per_context: Annotated[int, Field(ge=1, le=16)] | None = None
    """Solved examples in each context of this component. Default: the run's."""


class Component(Config):
    """One configuration of UniSD or of a baseline: a preset, mechanisms, or a preset with changes."""

    name: Annotated[str, Field(pattern=DnsLabel, max_length=20)]
    """Name of the component; with the seed it names results, e.g. `star-1`."""
    preset: PresetName | None = None
    """A named set of mechanisms, or a baseline; blocks given beside it change single fields of it. What each sets:
    `unisd explain list`. Default: none, the divergence alone."""
    divergence: Divergence | None = None
    """Divergence between teacher and student at each token, over the whole vocabulary. Default: forward KL."""
    agreement: Agreement | None = None
    """Weights tokens or completions by how far teachers with different auxiliary contexts agree. Off by default."""
    ema: Ema | None = None
    """A teacher whose weights follow the student's as a moving average. Off by default: the teacher is the student."""
    contrastive: Contrastive | None = None
    """A term that pulls the student away from a teacher shown a wrong demonstration. Off by default."""
    features: Features | None = None
    """A term that matches last hidden states of student and teacher. Off by default."""
    clip: Clip | None = None
    """A bound on the divergence of single tokens: a value in nats, or a quantile. Off by default."""
    sampling: Sampling | None = None
    """What completions this component learns on. Default: the student's, sampled as `rollout` says."""
    contexts: ContextsOverrides | None = None
    """Changes to the run's auxiliary contexts, for this component. Default: none."""
    training: TrainingOverrides | None = None
    """Changes to the run's training settings, for this component. Default: none."""


class SuccessPolicy(Config):
    """When a run counts as succeeded."""

    type: Literal["All", "Any", "AtLeast"] = "All"
    """All components, any, or at least `count`. Default All."""
    count: PositiveInt | None = None
    """How many components, each counted once a seed, must succeed (`AtLeast` only)."""


class RunSpec(Config):
    """What to train, on what, and how."""

    model: Model
    """The base model: a hub id, a path, or a path in a shared claim; exactly one."""
    task: Task
    """What to train on: a named task, or rows of one's own."""
    components: Annotated[list[Component], Field(min_length=1, max_length=MAX_COMPONENTS)]
    """The arms of the experiment, each trained, evaluated and compared with the others. Components times seeds: at
    most 64."""
    contexts: Contexts = Contexts()
    """Auxiliary contexts of agreement, and the layout of every demonstration. Default: three retrieved examples."""
    training: Training = Training()
    """Training settings of all components; a component may change some. Default: one epoch of LoRA."""
    rollout: Rollout = Rollout()
    """How completions are sampled while training. Default: one vLLM server with one GPU."""
    trainer: Trainer = Trainer()
    """The training job of each component (clusters). Default: one pod with one GPU."""
    preparation: Preparation = Preparation()
    """The stages that all components share: fetching, contexts, report (clusters). Default: the installation's."""
    evaluation: Evaluation = Evaluation()
    """How components are scored on held-out rows. Default: on the run's own task, with perplexity."""
    outputs: Outputs | None = None
    """Where results go besides storage. Default: nowhere."""
    storage: Storage | None = None
    """The claim that holds models, data, checkpoints and reports (clusters). Default: a new one, kept."""
    tracking: Tracking | None = None
    """Experiment trackers that figures are sent to. Default: none."""
    seeds: Annotated[list[NonNegativeInt], Field(min_length=1, max_length=MAX_SEEDS)] = [1]
    """Every component runs once a seed. Default [1]."""
    parallelism: Annotated[int, Field(ge=1, le=64)] = 1
    """Components trained at once. Default 1."""
    failure_policy: Literal["Continue", "FailFast"] = "Continue"
    """Whether other components go on after one failed. Default Continue."""
    success_policy: SuccessPolicy = SuccessPolicy()
    """How many components must succeed for the run to. Default: all."""
    queue_name: ObjectName | None = None
    """Kueue LocalQueue that every component is admitted by (clusters). Default: none."""
    suspend: bool = False
    """Holds the run: no pod is kept (clusters). Default false."""
    backoff_limit: NonNegativeInt = 3
    """Failed attempts of a component before it counts as failed (clusters). Default 3."""
    active_deadline_seconds: PositiveInt | None = None
    """Longest time that a component may be at work, all its attempts together, seconds; what it waits does not count.
    On one machine the longest time of each of its stages. Default: no limit."""
    pre_running_deadline_seconds: PositiveInt = 1800
    """Longest time until a component's pods all run, seconds; then they are released and it queues again (clusters).
    Default 1800."""
    progress_deadline_seconds: PositiveInt = 3600
    """Longest time without a finished optimiser step, seconds (clusters). Default 3600."""
    ttl_seconds_after_finished: NonNegativeInt | None = None
    """Children of a finished run, never the run, are deleted after this time, seconds (clusters). Default: kept."""


class Metadata(Config):
    """Name of the run, and what Kubernetes keeps beside it."""

    name: Annotated[str, Field(pattern=DnsLabel, max_length=MAX_RUN_NAME)]
    """Name of the run, a DNS label of at most 40 characters."""
    namespace: Name | None = None
    """Namespace (clusters)."""
    labels: dict[str, LabelValue] | None = None
    """Labels (clusters)."""
    annotations: dict[str, str] | None = None
    """Annotations (clusters)."""


class SelfDistillRun(Config):
    """One self-distillation experiment."""

    api_version: Literal["unisd.dev/v1alpha1"]
    """Version of this manifest's language."""
    kind: Literal["SelfDistillRun"]
    """Kind of the resource."""
    metadata: Metadata
    """Name of the run."""
    spec: RunSpec
    """What to train, on what, and how."""
