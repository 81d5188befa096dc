"""The loss on full logits, as the equations read: the oracle of the tests, too large to train with."""

import torch

from unisd.config.resolve import Objective
from unisd.objective.terms import clipped, divergence, feature_distance, hinge, wide
from unisd.objective.types import Coefficients, Head, Loss, Squares, Tokens


def logits(hidden_NH: torch.Tensor, head: Head) -> torch.Tensor:
    """Logits [N, V] in float32 or wider."""
    logits_NV = wide(hidden_NH) @ wide(head.weight_VH.T.to(hidden_NH.dtype))
    return logits_NV if head.softcap is None else head.softcap * torch.tanh(logits_NV / head.softcap)


def self_distillation_loss(
    tokens: Tokens, objective: Objective, coefficients: Coefficients, clip_bound: float | None = None
) -> Loss:
    """L = Σ c·min(D, κ) + λ·Σ c_neg·h + w·Σ c_f·f, from logits; see docs/objective.md."""
    student_NV = logits(tokens.student_NH, tokens.student_head)
    teacher_NH = tokens.teacher_NH.detach()
    teacher_NV = logits(teacher_NH, tokens.teacher_head).detach()
    tempered_NV = (student_NV / objective.temperature).log_softmax(dim=-1)
    divergence_N = divergence(
        tempered_NV, (teacher_NV / objective.temperature).log_softmax(dim=-1), objective.divergence.alpha
    )
    logp_N = student_NV.log_softmax(dim=-1).gather(1, tokens.token_N[:, None])[:, 0]
    entropy_N = -(tempered_NV.exp() * tempered_NV).sum(dim=-1)
    alone = objective.features is not None and objective.features.alone
    if alone:
        divergence_N = torch.zeros_like(divergence_N)
    parts = {
        "weighted": (coefficients.divergence_N * clipped(divergence_N, clip_bound)).sum(),
        "unweighted": (coefficients.unweighted_N * clipped(divergence_N, clip_bound)).sum(),
        "unclipped": (coefficients.divergence_N * divergence_N).sum(),
    }
    hinge_N, distance_N = torch.zeros_like(logp_N), torch.zeros_like(logp_N)
    if objective.contrastive is not None:
        assert tokens.teacher_logp_N is not None
        assert tokens.negative_logp_N is not None
        hinge_N = hinge(logp_N, tokens.teacher_logp_N, tokens.negative_logp_N, objective.contrastive)
        parts["contrastive"] = objective.contrastive.weight * (coefficients.contrastive_N * hinge_N).sum()
    if objective.features is not None:
        distance_N = feature_distance(tokens.student_NH, teacher_NH)
        parts["features"] = objective.features.weight * (coefficients.features_N * distance_N).sum()
    others = [parts[name] for name in ("contrastive", "features") if name in parts]
    return Loss(
        value=sum(others, parts["weighted"]),
        divergence_N=divergence_N.detach(),
        entropy_N=entropy_N.detach(),
        student_logp_N=logp_N.detach(),
        hinge_N=hinge_N.detach(),
        distance_N=distance_N.detach(),
        squares=_squares(tokens.student_NH, parts),
    )


def _squares(student_NH: torch.Tensor, parts: dict[str, torch.Tensor]) -> Squares:
    def gradient(name: str) -> torch.Tensor:
        if name not in parts or not parts[name].requires_grad:
            return torch.zeros_like(student_NH)
        return torch.autograd.grad(parts[name], student_NH, retain_graph=True)[0]

    rest = gradient("contrastive") + gradient("features")
    total = gradient("weighted") + rest
    unweighted, unclipped = gradient("unweighted") + rest, gradient("unclipped") + rest
    norms = [
        gradient("weighted"),
        gradient("contrastive"),
        gradient("features"),
        total - unweighted,
        unweighted,
        total - unclipped,
        unclipped,
    ]
    return Squares(*(float(value.square().sum()) for value in norms))
