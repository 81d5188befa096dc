"""What completions a component learns on, where that differs from the run's."""

from typing import Annotated

from pydantic import Field

from unisd.config.base import Config, Fraction, PositiveInt


class Sampling(Config):
    """How a component's completions are sampled while training."""

    temperature: Annotated[float, Field(gt=0.0, le=10.0)] | None = None
    """Temperature of sampling. Default: `rollout.temperature`."""
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Draws from the smallest set of most likely tokens that holds this probability. Default 1 (all)."""
    top_k: PositiveInt | None = None
    """Draws from this many most likely tokens. Default: all."""
    on_policy: Fraction = 1.0
    """Share λ of optimiser steps that learn on completions of the student; the others learn on the reference
    demonstrations (GKD). Default 1."""
