"""What the loss is given and what it gives back.

Legend of shapes: N completion tokens of a micro-step, all rows end to end; R rows; H hidden dimensions; V vocabulary;
K auxiliary contexts. There is no padding: a token that must not count has mask 0.
"""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Head:
    """An output layer: logits are hidden · weightᵀ, softly capped where the model does so."""

    weight_VH: torch.Tensor
    softcap: float | None = None
    """Logits become cap·tanh(logit/cap)."""


@dataclass(frozen=True)
class Tokens:
    """The completion tokens of a micro-step as the student and its teachers see them."""

    student_NH: torch.Tensor
    """Last hidden states of the student, with gradient."""
    student_head: Head
    teacher_NH: torch.Tensor
    """Last hidden states of the primary teacher, without gradient."""
    teacher_head: Head
    token_N: torch.Tensor
    """The sampled token ids."""
    teacher_logp_N: torch.Tensor | None = None
    """log π of each token under the primary teacher, τ = 1, nats; needed by the contrastive term."""
    negative_logp_N: torch.Tensor | None = None
    """The same under the negative context."""


@dataclass(frozen=True)
class Coefficients:
    """What each token's terms are multiplied by; the loss is linear in them (see `reduction`)."""

    divergence_N: torch.Tensor
    unweighted_N: torch.Tensor
    """`divergence_N` as it would be with all agreement weights 1."""
    contrastive_N: torch.Tensor
    features_N: torch.Tensor


@dataclass(frozen=True)
class Squares:
    """Squared norms of the gradient at the student's last hidden state; they add over micro-steps and processes."""

    divergence: float = 0.0
    contrastive: float = 0.0
    features: float = 0.0
    weights_changed: float = 0.0
    """‖g − g_off‖² of the agreement weights, g_off having all weights 1."""
    weights_off: float = 0.0
    """‖g_off‖² of the same."""
    clip_changed: float = 0.0
    """‖g − g_off‖² of the clip, g_off not being clipped."""
    clip_off: float = 0.0
    """‖g_off‖² of the same."""

    def __add__(self, other: "Squares") -> "Squares":
        return Squares(*(a + b for a, b in zip(self.values(), other.values(), strict=True)))

    def values(self) -> tuple[float, ...]:
        """The seven figures in order."""
        return (
            self.divergence,
            self.contrastive,
            self.features,
            self.weights_changed,
            self.weights_off,
            self.clip_changed,
            self.clip_off,
        )


@dataclass(frozen=True)
class Loss:
    """The loss of a micro-step and what it is made of."""

    value: torch.Tensor
    """Scalar, differentiable; the sum over the step's micro-steps and processes is the step's loss."""
    divergence_N: torch.Tensor
    """D before clipping and weights, nats; 0 where features are matched alone."""
    entropy_N: torch.Tensor
    """Entropy of the student at temperature τ, nats."""
    student_logp_N: torch.Tensor
    """log π of each token under the student, τ = 1, nats."""
    hinge_N: torch.Tensor
    """The contrastive hinge, nats; 0 without it."""
    distance_N: torch.Tensor
    """Mean squared distance of last hidden states; 0 without feature matching."""
    squares: Squares
