"""The per-token terms of the loss, on log-probabilities or hidden states; `naive` and `fused` put them together.

What they are multiplied by and summed over is `reduction`'s. Legend: N tokens, V vocabulary, H hidden dimensions.
"""

import math

import torch

from unisd.config.objective import Contrastive

NARROW = (torch.bfloat16, torch.float16)


def wide(values: torch.Tensor) -> torch.Tensor:
    """The same values in float32 or wider."""
    return values.float() if values.dtype in NARROW else values


def divergence(student_NV: torch.Tensor, teacher_NV: torch.Tensor, alpha: float) -> torch.Tensor:
    """D per token, [N], nats, from log-probabilities at temperature τ (GKD, arXiv 2306.13649, eq. 1).

    α = 0: KL(P‖S); α = 1: KL(S‖P); between: α·KL(P‖M) + (1−α)·KL(S‖M) with M = (1−α)·S + α·P.
    """
    student, teacher = student_NV.exp(), teacher_NV.exp()
    if alpha == 0.0:
        return (teacher * (teacher_NV - student_NV)).sum(dim=-1)
    if alpha == 1.0:
        return (student * (student_NV - teacher_NV)).sum(dim=-1)
    mixture_NV = log_mixture(student_NV, teacher_NV, alpha)
    to_teacher = (teacher * (teacher_NV - mixture_NV)).sum(dim=-1)
    to_student = (student * (student_NV - mixture_NV)).sum(dim=-1)
    return alpha * to_teacher + (1.0 - alpha) * to_student


def log_mixture(student_NV: torch.Tensor, teacher_NV: torch.Tensor, alpha: float) -> torch.Tensor:
    """log((1−α)·S + α·P), [N, V], 0 < α < 1, from log-probabilities; finite where both probabilities underflow."""
    return torch.logaddexp(student_NV + math.log1p(-alpha), teacher_NV + math.log(alpha))


def clipped(divergence_N: torch.Tensor, bound: float | None) -> torch.Tensor:
    """min(D, κ); tokens at or above κ have no gradient."""
    if bound is None:
        return divergence_N
    return torch.where(divergence_N < bound, divergence_N, divergence_N.new_tensor(bound))


def hinge(
    student_N: torch.Tensor, positive_N: torch.Tensor, negative_N: torch.Tensor, contrastive: Contrastive
) -> torch.Tensor:
    """max(0, margin + |ℓS−ℓ⁺| − |ℓS−ℓ⁻|) per token, [N], nats, from log-probabilities of the token at τ = 1."""
    gap_N = (student_N - positive_N).abs() - (student_N - negative_N).abs()
    return torch.relu(contrastive.margin + gap_N)


def feature_distance(student_NH: torch.Tensor, teacher_NH: torch.Tensor) -> torch.Tensor:
    """Mean over hidden dimensions of (hS − hT)², [N]."""
    return (wide(student_NH) - wide(teacher_NH)).square().mean(dim=-1)
