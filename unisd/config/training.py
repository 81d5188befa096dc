"""How the student is trained: optimiser, lengths, guards."""

from typing import Annotated, Literal

from pydantic import Field

from unisd.config.base import Config, Fraction, NonNegativeInt, PositiveInt
from unisd.config.choices import Precision


class Guard(Config):
    """Bounds on signs of collapse, over a window of steps: a falling loss alone says nothing here."""

    action: Literal["Warn", "Stop"] = "Warn"
    """`Warn` logs and counts; `Stop` ends the component with reason PolicyCollapsed. Default `Warn`."""
    window: PositiveInt = 10
    """Optimiser steps over which each metric is averaged. Default 10."""
    max_truncated_share: Fraction = 0.9
    """Largest share of completions without a stop token. Default 0.9."""
    max_leak_share: Fraction = 0.2
    """Largest share of completions that repeat a 5-gram of the template's own instructions. Default 0.2."""
    max_repetition: Fraction = 0.6
    """Largest share of repeated 4-grams within a completion, averaged. Default 0.6."""
    min_entropy: Annotated[float, Field(ge=0.0)] = 0.0
    """Smallest mean entropy of the student's token distribution, in nats. Default 0 (off)."""
    max_logp_difference: Annotated[float, Field(gt=0.0)] = 0.2
    """Largest mean difference at one step between rollouts' and trainer's log-probabilities of the same tokens, in
    nats; above it the component stops with PolicyDiverged. bfloat16 alone makes 0.01 to 0.05. Default 0.2."""
    max_non_finite: PositiveInt = 3
    """Steps in a row with a non-finite loss or gradient before the component stops. Default 3."""


class TrainingScalars(Config):
    """The settings of training that a component may override."""

    learning_rate: Annotated[float, Field(gt=0.0)] = 2.0e-5
    """Peak learning rate of AdamW. Default 2e-5."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Learning-rate schedule after warm-up. Default cosine."""
    warmup_ratio: Fraction = 0.1
    """Share of all steps with a rising learning rate. Default 0.1."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    """AdamW's weight decay. Default 0."""
    max_grad_norm: Annotated[float, Field(gt=0.0)] = 1.0
    """Gradients are scaled down to this global norm. Default 1."""
    epochs: PositiveInt = 1
    """Passes over the training rows. Default 1."""
    max_steps: PositiveInt | None = None
    """Ends training after this many optimiser steps, if the epochs have not. Default: no limit."""
    per_device_batch_size: PositiveInt = 4
    """Rows of one forward and backward pass on one device. Default 4."""
    gradient_accumulation_steps: PositiveInt = 4
    """Passes per optimiser step. Default 4."""
    mask_truncated: bool = True
    """Leaves completions without a stop token out of the loss and its denominators. Default true."""
    loss_tokens_to_skip: NonNegativeInt = 0
    """Leading completion tokens left out of the loss. Default 0."""


class Training(TrainingScalars):
    """Training settings of the whole run."""

    fine_tuning: Literal["lora", "full"] = "lora"
    """Train adapters or all weights. Default `lora`."""
    precision: Precision = "bfloat16"
    """Precision of the base weights; adapters, moments and the EMA shadow are float32. Default bfloat16."""
    attention: Literal["auto", "flash_attention_2", "sdpa", "eager"] = "auto"
    """Attention implementation. Default `auto`: the fastest installed one that packs without padding."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time. Default false."""
    max_prompt_tokens: PositiveInt = 3072
    """Longest prompt of any kind, contexts included; rows above it are dropped and counted. Default 3072."""
    max_completion_tokens: PositiveInt = 1024
    """Longest completion that is sampled or generated. Default 1024."""
    max_tokens_per_pass: PositiveInt = 16384
    """Tokens packed into one scoring pass, a bound on its memory. Default 16384."""
    checkpoint_every_steps: PositiveInt = 50
    """Optimiser steps between checkpoints; one is also written at the end and on SIGTERM. Default 50."""
    keep_checkpoints: Annotated[int, Field(ge=2, le=100)] = 2
    """Newest checkpoints kept, beside the best. At least 2, so that a corrupt one has one before it. Default 2."""
    threads: PositiveInt | None = None
    """CPU threads of a trainer process; recorded, since sums depend on it. Default: one per core given."""
    guard: Guard = Guard()
    """Bounds on signs of collapse, over a window of steps. Default: warn."""


class TrainingOverrides(TrainingScalars):
    """What a component changes of the run's training settings; only the fields given count."""
