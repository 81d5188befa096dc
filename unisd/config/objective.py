"""The mechanisms of self-distillation, one optional block each.

A component combines any set of them. Defaults are those of a block that is written empty (`ema: {}`);
what a preset sets stands in `presets`. Equations: docs/objective.md.
"""

import math
from typing import Annotated, Literal

from pydantic import Field

from unisd.config.base import Config, Fraction, PositiveInt

AgreementLevel = Literal["token", "sequence"]
AgreementStatistic = Literal["variance", "range"]
AgreementScale = Literal["absolute", "quantile"]

# Disagreements are measured in nats² (variance) or nats (range); each γ halves the weight of a typical
# disagreement of its statistic. The research code's 0.001 to 0.01 would leave every weight at 1.
DEFAULT_GAMMA: dict[tuple[AgreementLevel, AgreementStatistic], float] = {
    ("token", "variance"): 1.0,
    ("token", "range"): 0.15,
    ("sequence", "variance"): 10.0,
    ("sequence", "range"): 0.5,
}
QUANTILE_GAMMA = 1.0


class Divergence(Config):
    """The divergence between teacher P and student S at each token, over the whole vocabulary."""

    alpha: Fraction = 0.0
    """Weight of the teacher in the mixture: 0 = KL(P‖S) (forward), 1 = KL(S‖P) (reverse), between: generalised
    Jensen-Shannon. Default 0."""
    temperature: Annotated[float, Field(gt=0.0, le=10.0)] | None = None
    """Temperature τ that divides the logits of both in the divergence. Default: `rollout.temperature`."""


class Gate(Config):
    """Score auxiliary contexts only where the student was unsure; other completions get weight 1."""

    quantile: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.75
    """Completions whose mean surprisal at sampling lies above this quantile of the step are scored. Default 0.75."""


class Agreement(Config):
    """Weights by how far teachers with different auxiliary contexts agree on the sampled completion."""

    level: AgreementLevel = "token"
    """`token`: one weight per token; `sequence`: one per completion. Default `token`."""
    statistic: AgreementStatistic = "variance"
    """Disagreement over the contexts: population variance (nats²) or range (nats). Default `variance`."""
    scale: AgreementScale = "absolute"
    """`absolute`: disagreement as it is; `quantile`: divided by its quantile over the step (token level
    only). Default `absolute`."""
    gamma: Annotated[float, Field(gt=0.0)] | None = None
    """Strength γ: token weight 1/(1+γ·d), sequence weight exp(−γ·d). Default by level and statistic: token
    1 (variance) or 0.15 (range), sequence 10 or 0.5."""
    quantile: Annotated[float, Field(gt=0.0, le=1.0)] = 0.95
    """Quantile of the disagreement that scale `quantile` divides by. Default 0.95."""
    cap: Annotated[float, Field(gt=0.0)] = 10.0
    """Largest scaled disagreement under scale `quantile`. Default 10."""
    gate: Gate | None = None
    """Scores auxiliary contexts only where the student was unsure; other completions get weight 1. Off by default."""

    @property
    def strength(self) -> float:
        """γ as it is used: the given one, or the default of its level, statistic and scale."""
        if self.gamma is not None:
            return self.gamma
        return QUANTILE_GAMMA if self.scale == "quantile" else DEFAULT_GAMMA[self.level, self.statistic]


class Ema(Config):
    """The teacher's weights follow the student's as an exponential moving average."""

    decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.98
    """Weight β of the old teacher: θ̄ ← β·θ̄ + (1−β)·θ. Default 0.98; 0 copies the student."""
    every_steps: PositiveInt = 1
    """Optimiser steps between two updates. Default 1."""


class Contrastive(Config):
    """Pulls the student to the teacher and away from one that was shown a wrong demonstration."""

    weight: Annotated[float, Field(gt=0.0)] = 0.1
    """Weight λ of the hinge in the loss. Default 0.1."""
    margin: Annotated[float, Field(ge=0.0)] = 0.5
    """Margin of the hinge max(0, margin + |ℓS−ℓ⁺| − |ℓS−ℓ⁻|), in nats. Default 0.5."""


class Features(Config):
    """Matches the last hidden states of student and teacher: mean squared difference over hidden dimensions."""

    weight: Annotated[float, Field(gt=0.0)] = 0.1
    """Weight in the loss; alone, the loss is this term times its weight. Default 0.1."""
    alone: bool = False
    """Leaves the divergence out, so that features are the only target. Default false."""


class Clip(Config):
    """Bounds the divergence of single tokens; give exactly one of the two."""

    value: Annotated[float, Field(gt=0.0)] | None = None
    """Largest divergence of a token in nats; must lie below the bound of the chosen divergence."""
    quantile: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """The bound is this quantile of the previous optimiser step's token divergences."""


def divergence_bound(alpha: float) -> float:
    """Largest value that the divergence can take, in nats: −α ln α − (1−α) ln(1−α), infinite for α of 0 or 1."""
    if alpha in (0.0, 1.0):
        return math.inf
    return -alpha * math.log(alpha) - (1.0 - alpha) * math.log1p(-alpha)
