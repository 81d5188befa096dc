"""The loss that trains: from hidden states, in tiles of tokens and vocabulary (`logits`).

For each tile of tokens: log-sum-exps, then per-token values, then the gradient at the student's hidden states, which is
computed in the forward pass because every coefficient is known before it. `naive` is the same function on full logits;
what divides by what is decided in `reduction`. Called by the trainer, and by evaluation for its divergence alone.

Legend: N tokens, n tokens of a tile, V vocabulary, v vocabulary of a slice, H hidden dimensions.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch.autograd.function import once_differentiable

from unisd.config.resolve import Objective
from unisd.objective.logits import Logits, Tiles, in_slice, log_softmax, product, tiles_for
from unisd.objective.terms import feature_distance, hinge, log_mixture, wide
from unisd.objective.types import Coefficients, Loss, Squares, Tokens


@dataclass(frozen=True)
class _Tile:
    """A tile of tokens and all that its terms are made of."""

    tokens: Tokens
    coefficients: Coefficients
    objective: Objective
    clip_bound: float | None
    student: Logits
    teacher: Logits

    @property
    def diverges(self) -> bool:
        features = self.objective.features
        return features is None or not features.alone


@dataclass(frozen=True)
class _Values:
    """Per-token values of a tile, [n] each."""

    plain_lse_n: torch.Tensor
    tempered_lse_n: torch.Tensor
    teacher_lse_n: torch.Tensor
    logp_n: torch.Tensor
    entropy_n: torch.Tensor
    divergence_n: torch.Tensor
    slope_n: torch.Tensor
    """Σ_v S·∂D/∂S, what the softmax subtracts in the gradient."""


@dataclass(frozen=True)
class _Slopes:
    """What the gradients of a token's divergence and log-probability are multiplied by, [n] each."""

    divergence_n: torch.Tensor
    pull_n: torch.Tensor


@dataclass(frozen=True)
class _Parts:
    """Gradients at the student's hidden states, [n, H] each."""

    divergence_nH: torch.Tensor
    """∂D/∂h, not multiplied by any coefficient."""
    contrast_nH: torch.Tensor
    features_nH: torch.Tensor


def self_distillation_loss(
    tokens: Tokens,
    objective: Objective,
    coefficients: Coefficients,
    clip_bound: float | None = None,
    *,
    tiles: Tiles | None = None,
) -> Loss:
    """The same as `naive.self_distillation_loss`, with gradient to the student's hidden states and output layer."""
    weight_VH, tiles = tokens.student_head.weight_VH, tiles or tiles_for(tokens.student_NH)
    head_gradient = (
        torch.zeros_like(weight_VH, dtype=wide(weight_VH.new_zeros(0)).dtype) if weight_VH.requires_grad else None
    )
    size = tiles.tokens(weight_VH.shape[0])
    parts = []
    with torch.no_grad():
        for start in range(0, max(tokens.student_NH.shape[0], 1), size):
            where = slice(start, start + size)
            cut = _cut(tokens, where)
            student = Logits(cut.student_NH, cut.student_head, tiles)
            teacher = Logits(cut.teacher_NH, cut.teacher_head, tiles)
            tile = _Tile(cut, _cut(coefficients, where), objective, clip_bound, student, teacher)
            parts.append(_terms(tile, head_gradient))
        gradient_NH = torch.cat([part.pop("gradient") for part in parts]).to(tokens.student_NH.dtype)
        value = torch.stack([part.pop("value") for part in parts]).sum()
        squares = torch.stack([part.pop("squares") for part in parts]).sum(dim=0).tolist()
    per_token = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    attached = _Attach.apply(  # type: ignore[no-untyped-call]
        tokens.student_NH, weight_VH, value, gradient_NH, head_gradient
    )
    return Loss(value=attached, squares=Squares(*squares), **per_token)


class _Attach(torch.autograd.Function):
    """A scalar whose gradients are known already."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> torch.Tensor:
        _, weight_VH, value, gradient_NH, head_gradient = inputs
        ctx.gradients, ctx.head_dtype = (gradient_NH, head_gradient), weight_VH.dtype
        return cast(torch.Tensor, value.clone())

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(ctx: Any, *outputs: Any) -> Any:
        hidden, head = ctx.gradients
        scaled_head = None if head is None else (head * outputs[0]).to(ctx.head_dtype)
        return hidden * outputs[0], scaled_head, None, None, None


def _cut(record: Any, where: slice) -> Any:
    """The same record over some of its tokens."""
    kept = {name: value[where] if isinstance(value, torch.Tensor) else value for name, value in vars(record).items()}
    return type(record)(**kept)


def _terms(tile: _Tile, head_gradient: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """Everything about one tile of tokens; adds to `head_gradient` in place."""
    objective, coefficients = tile.objective, tile.coefficients
    values = _values(tile)
    bound = math.inf if tile.clip_bound is None else tile.clip_bound
    below_n = (values.divergence_n < bound).to(values.logp_n.dtype)
    hinge_n, pull_n = _contrast(values.logp_n, tile)
    distance_n, features_nH = _features(tile)
    slopes = _Slopes(coefficients.divergence_N * below_n, pull_n)
    parts = _gradients(tile, values, slopes, head_gradient)
    parts = replace(parts, features_nH=features_nH)
    value = (coefficients.divergence_N * values.divergence_n.clamp(max=bound)).sum()
    if objective.contrastive is not None:
        value = value + objective.contrastive.weight * (coefficients.contrastive_N * hinge_n).sum()
    if objective.features is not None:
        value = value + objective.features.weight * (coefficients.features_N * distance_n).sum()
    return {
        "value": value,
        "gradient": slopes.divergence_n[:, None] * parts.divergence_nH + parts.contrast_nH + parts.features_nH,
        "squares": _squares(parts, coefficients, below_n),
        "divergence_N": values.divergence_n,
        "entropy_N": values.entropy_n,
        "student_logp_N": values.logp_n,
        "hinge_N": hinge_n,
        "distance_N": distance_n,
    }


def _values(tile: _Tile) -> _Values:
    temperature, alpha = tile.objective.temperature, tile.objective.divergence.alpha
    plain_lse_n = tile.student.log_sum_exp(1.0)
    tempered_lse_n = tile.student.log_sum_exp(temperature)
    entropy_n, divergence_n, slope_n = (torch.zeros_like(plain_lse_n) for _ in range(3))
    teacher_lse_n = tile.teacher.log_sum_exp(temperature) if tile.diverges else divergence_n
    for where, logits_nv in tile.student.slices():
        log_s_nv = log_softmax(logits_nv, tempered_lse_n, temperature)
        s_nv = log_s_nv.exp()
        entropy_n = entropy_n - _dot(s_nv, log_s_nv)
        if tile.diverges:
            log_p_nv = log_softmax(tile.teacher.at(where), teacher_lse_n, temperature)
            share_n, share_of_slope_n = _divergence(s_nv, log_s_nv, log_p_nv, alpha)
            divergence_n, slope_n = divergence_n + share_n, slope_n + share_of_slope_n
    logp_n = tile.student.realised(tile.tokens.token_N) - plain_lse_n
    return _Values(plain_lse_n, tempered_lse_n, teacher_lse_n, logp_n, entropy_n, divergence_n, slope_n)


def _dot(left_nv: torch.Tensor, right_nv: torch.Tensor) -> torch.Tensor:
    return (left_nv * right_nv).sum(dim=-1)


def _divergence(
    s_nv: torch.Tensor, log_s_nv: torch.Tensor, log_p_nv: torch.Tensor, alpha: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """This slice's share of D and of Σ S·∂D/∂S, [n] each."""
    if alpha == 0.0:
        divergence_n = _dot(log_p_nv.exp(), log_p_nv - log_s_nv)
        return divergence_n, torch.zeros_like(divergence_n)
    if alpha == 1.0:
        divergence_n = _dot(s_nv, log_s_nv - log_p_nv)
        return divergence_n, divergence_n
    log_m_nv = log_mixture(log_s_nv, log_p_nv, alpha)
    slope_n = (1.0 - alpha) * _dot(s_nv, log_s_nv - log_m_nv)
    return slope_n + alpha * _dot(log_p_nv.exp(), log_p_nv - log_m_nv), slope_n


def _contrast(logp_n: torch.Tensor, tile: _Tile) -> tuple[torch.Tensor, torch.Tensor]:
    """The hinge and the coefficient of ∂ℓS in the loss, [n] each."""
    tokens, contrastive = tile.tokens, tile.objective.contrastive
    if contrastive is None:
        return torch.zeros_like(logp_n), torch.zeros_like(logp_n)
    assert tokens.teacher_logp_N is not None
    assert tokens.negative_logp_N is not None
    hinge_n = hinge(logp_n, tokens.teacher_logp_N, tokens.negative_logp_N, contrastive)
    direction_n = (logp_n - tokens.teacher_logp_N).sign() - (logp_n - tokens.negative_logp_N).sign()
    return hinge_n, contrastive.weight * tile.coefficients.contrastive_N * direction_n * (hinge_n > 0)


def _features(tile: _Tile) -> tuple[torch.Tensor, torch.Tensor]:
    """The distance of each token, [n], and the gradient of its term, [n, H]."""
    student_nH, teacher_nH = wide(tile.tokens.student_NH), wide(tile.tokens.teacher_NH)
    features = tile.objective.features
    if features is None:
        return torch.zeros_like(student_nH[:, 0]), torch.zeros_like(student_nH)
    scale_n = features.weight * tile.coefficients.features_N * (2.0 / student_nH.shape[-1])
    return feature_distance(student_nH, teacher_nH), scale_n[:, None] * (student_nH - teacher_nH)


def _gradients(tile: _Tile, values: _Values, slopes: _Slopes, head_gradient: torch.Tensor | None) -> _Parts:
    """The gradients that pass through the output layer; adds the one of the layer itself to `head_gradient`."""
    head, hidden_nH = tile.tokens.student_head, tile.tokens.student_NH
    divergence_nH = wide(torch.zeros_like(hidden_nH))
    contrast_nH = torch.zeros_like(divergence_nH)
    pulls = tile.objective.contrastive is not None
    for where, logits_nv in tile.student.slices() if tile.diverges or pulls else ():
        bend_nv = None if head.softcap is None else 1.0 - (logits_nv / head.softcap).square_()
        weight_vH = head.weight_VH[where].to(hidden_nH.dtype)
        steps = []
        if tile.diverges:
            step_nv = _bent(_divergence_step(logits_nv, tile.teacher.at(where), values, tile.objective), bend_nv)
            divergence_nH += product(step_nv.to(hidden_nH.dtype), weight_vH)
            steps.append(slopes.divergence_n[:, None] * step_nv if head_gradient is not None else step_nv)
        if pulls:
            step_nv = _bent(_pull_step(logits_nv, where, values, tile.tokens.token_N), bend_nv)
            step_nv *= slopes.pull_n[:, None]
            contrast_nH += product(step_nv.to(hidden_nH.dtype), weight_vH)
            steps.append(step_nv)
        if head_gradient is not None:
            head_gradient[where] += product(sum(steps[1:], steps[0]).to(hidden_nH.dtype).T, hidden_nH)
    return _Parts(divergence_nH, contrast_nH, torch.zeros_like(divergence_nH))


def _bent(step_nv: torch.Tensor, bend_nv: torch.Tensor | None) -> torch.Tensor:
    """Through the derivative of the soft cap."""
    return step_nv if bend_nv is None else step_nv.mul_(bend_nv)


def _divergence_step(
    student_nv: torch.Tensor, teacher_nv: torch.Tensor, values: _Values, objective: Objective
) -> torch.Tensor:
    """∂D/∂z of a slice, [n, v]: (S−P)/τ for α = 0, else S·(∂D/∂S − Σ S·∂D/∂S)/τ."""
    temperature, alpha = objective.temperature, objective.divergence.alpha
    log_s_nv = log_softmax(student_nv, values.tempered_lse_n, temperature)
    log_p_nv = log_softmax(teacher_nv, values.teacher_lse_n, temperature)
    if alpha == 0.0:
        return log_s_nv.exp_().sub_(log_p_nv.exp_()).div_(temperature)
    against_nv = log_p_nv if alpha == 1.0 else log_mixture(log_s_nv, log_p_nv, alpha)
    scale = 1.0 if alpha == 1.0 else 1.0 - alpha
    derivative_nv = (log_s_nv - against_nv).mul_(scale).sub_(values.slope_n[:, None])
    return log_s_nv.exp_().mul_(derivative_nv).div_(temperature)


def _pull_step(logits_nv: torch.Tensor, where: slice, values: _Values, token_n: torch.Tensor) -> torch.Tensor:
    """∂ℓS/∂z of a slice, [n, v]: 1 at the token, less the distribution at τ = 1."""
    step_nv = log_softmax(logits_nv, values.plain_lse_n, 1.0).exp_().neg_()
    inside_n, local_n = in_slice(token_n, where)
    return step_nv.scatter_add_(1, local_n[:, None], inside_n.to(step_nv.dtype)[:, None])


def _squares(parts: _Parts, coefficients: Coefficients, below_n: torch.Tensor) -> torch.Tensor:
    """Squared norms in the order of `Squares`, [7]."""
    rest_nH = parts.contrast_nH + parts.features_nH

    def scaled(coefficient_n: torch.Tensor) -> torch.Tensor:
        return coefficient_n[:, None] * parts.divergence_nH

    weighted_N, unweighted_N = coefficients.divergence_N, coefficients.unweighted_N
    gradients = (
        scaled(weighted_N * below_n),
        parts.contrast_nH,
        parts.features_nH,
        scaled((weighted_N - unweighted_N) * below_n),
        scaled(unweighted_N * below_n) + rest_nH,
        scaled(weighted_N * (1.0 - below_n)),
        scaled(weighted_N) + rest_nH,
    )
    return torch.stack([gradient_nH.square().sum() for gradient_nH in gradients])
