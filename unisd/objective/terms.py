"""The per-token terms of the loss, on log-probabilities or hidden states. Legend: N tokens, V vocabulary, H hidden."""

import torch

from unisd.config.objective import Contrastive


def divergence(student_NV: torch.Tensor, teacher_NV: torch.Tensor, alpha: float) -> torch.Tensor:
    """D per token, [N], nats, from log-probabilities at temperature τ (GKD, arXiv 2306.13649, eq. 1).

    α = 0: KL(P‖S); α = 1: KL(S‖P); between: α·KL(P‖M) + (1−α)·KL(S‖M) with M = (1−α)·S + α·P.
    """
    student, teacher = student_NV.exp(), teacher_NV.exp()
    if alpha == 0.0:
        return (teacher * (teacher_NV - student_NV)).sum(dim=-1)
    if alpha == 1.0:
        return (student * (student_NV - teacher_NV)).sum(dim=-1)
    mixture_NV = ((1.0 - alpha) * student + alpha * teacher).log()
    to_teacher = (teacher * (teacher_NV - mixture_NV)).sum(dim=-1)
    to_student = (student * (student_NV - mixture_NV)).sum(dim=-1)
    return alpha * to_teacher + (1.0 - alpha) * to_student


def clipped(divergence_N: torch.Tensor, bound: float | None) -> torch.Tensor:
    """min(D, κ); tokens at or above κ have no gradient."""
    return divergence_N if bound is None else divergence_N.clamp(max=bound)


def hinge(
    student_N: torch.Tensor, positive_N: torch.Tensor, negative_N: torch.Tensor, contrastive: Contrastive
) -> torch.Tensor:
    """max(0, margin + |ℓS−ℓ⁺| − |ℓS−ℓ⁻|) per token, [N], nats, from log-probabilities of the token at τ = 1."""
    gap_N = (student_N - positive_N).abs() - (student_N - negative_N).abs()
    return (contrastive.margin + gap_N).clamp(min=0.0)


def feature_distance(student_NH: torch.Tensor, teacher_NH: torch.Tensor) -> torch.Tensor:
    """Mean over hidden dimensions of (hS − hT)², [N]."""
    return (student_NH.float() - teacher_NH.float()).square().mean(dim=-1)
