"""How trained components are scored."""

from typing import Annotated, Literal

from pydantic import Field

from unisd.config.base import PositiveInt
from unisd.config.cluster import Container
from unisd.config.task import TaskName


class Evaluation(Container):
    """Evaluation of every component on held-out rows."""

    tasks: Annotated[list[TaskName], Field(min_length=1, max_length=16)] | None = None
    """Tasks to score. Default: the run's own task."""
    perplexity: bool = True
    """Gold-completion and retention perplexity beside the scores. Default true."""
    every_steps: PositiveInt | None = None
    """Optimiser steps between probes on rows carved from the training split. Default: no probes."""
    probe_examples: PositiveInt = 64
    """Training rows set aside for probes, the same for every component, never trained on. Default 64."""
    checkpoint: Literal["last", "best"] = "last"
    """Which checkpoint is evaluated: the last, or the best by the probe. Default `last`."""
    batch_size: PositiveInt = 64
    """Rows generated together. Default 64."""
