"""How trained components are scored."""

from typing import Annotated, Literal

from pydantic import Field

from unisd.config.base import Config, FilePath, HubId, Name, PositiveInt
from unisd.config.cluster import Container
from unisd.config.task import TaskName


class EvaluationSource(Config):
    """Where the rows of another task than the run's come from; exactly one of hub and path."""

    task: TaskName
    """The task, one of `evaluation.tasks`."""
    hub: HubId | None = None
    """Hub dataset id with rows in the task's published schema."""
    revision: Name | None = None
    """Commit of the hub dataset. Default: the task's pinned one; the newest, which is told, where none is pinned."""
    path: FilePath | None = None
    """A JSON Lines file, or a folder with `test.jsonl` (or `validation.jsonl`)."""


class Evaluation(Container):
    """Evaluation of every component on held-out rows."""

    tasks: Annotated[list[TaskName], Field(min_length=1, max_length=16)] | None = None
    """Tasks to score, e.g. `[scienceqa, gpqa]` or `[mbpp, humaneval]`. Default: the run's own task."""
    sources: Annotated[list[EvaluationSource], Field(max_length=16)] | None = None
    """Rows of other tasks than the run's. Default: each task's hub dataset."""
    perplexity: bool = True
    """Gold-completion and retention perplexity beside the scores. Default true."""
    divergence: bool = False
    """Jensen-Shannon divergence to the base model beside the scores. Needs `rollout.engine: transformers`: servers tell
    no distributions. Default false."""
    samples: PositiveInt | None = None
    """Completions drawn of each row for pass@k, beside the greedy one that scores are of. Default: none."""
    passes: Annotated[list[PositiveInt], Field(min_length=1, max_length=8)] | None = None
    """The k of pass@k, each at most `samples`. Default: 1."""
    temperature: Annotated[float, Field(gt=0.0, le=10.0)] = 0.8
    """Temperature of the completions that are drawn for pass@k. Default 0.8."""
    every_steps: PositiveInt | None = None
    """Optimiser steps between probes on rows carved from the training split. Default: no probes."""
    probe_examples: PositiveInt = 64
    """Training rows set aside for probes, the same for every component, never trained on. Default 64."""
    checkpoint: Literal["last", "best"] = "last"
    """Which checkpoint is evaluated: the last, or the best by the probe. Default `last`."""
    batch_size: PositiveInt = 64
    """Rows generated together. Default 64."""
