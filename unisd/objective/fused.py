"""The loss that trains: from hidden states, in tiles of tokens and vocabulary, so that no [N, V] tensor ever exists.

For each tile of tokens: log-sum-exps, then per-token values, then the gradient at the student's hidden states, which
is computed in the forward pass because every coefficient is known before it. The vocabulary is cut into slices; logits
of a slice are computed anew at each visit, unless one slice holds the whole vocabulary. `naive` is the same function on
full logits.

Legend: N tokens, n tokens of a tile, V vocabulary, v vocabulary of a slice, H hidden dimensions.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from unisd.config.resolve import Objective
from unisd.objective.terms import feature_distance, hinge
from unisd.objective.types import Coefficients, Head, Loss, Squares, Tokens


@dataclass(frozen=True)
class Tiles:
    """How much to hold at once."""

    elements: int = 2**26
    """Logits of one tile of tokens; in float32, four bytes each."""
    vocabulary: int = 2**18
    """Longest slice of the vocabulary."""

    def tokens(self, vocabulary: int) -> int:
        """Tokens of a tile."""
        return max(16, self.elements // min(vocabulary, self.vocabulary))


DEFAULT_TILES = Tiles()


class _Logits:
    """Logits of one tile of tokens, slice by slice of the vocabulary."""

    def __init__(self, hidden_nH: torch.Tensor, head: Head, tiles: Tiles) -> None:
        self._hidden_nH, self._head, self._width = hidden_nH, head, tiles.vocabulary
        self._whole: torch.Tensor | None = None

    def slices(self) -> Iterator[tuple[slice, torch.Tensor]]:
        """Every slice of the vocabulary with its logits [n, v] in float32 or wider."""
        vocabulary = self._head.weight_VH.shape[0]
        for start in range(0, vocabulary, self._width):
            where = slice(start, min(start + self._width, vocabulary))
            yield where, self.at(where)

    def at(self, where: slice) -> torch.Tensor:
        """Logits [n, v] of one slice; kept if it is the whole vocabulary."""
        if self._whole is not None:
            return self._whole
        logits_nv = self._compute(where)
        if where.stop - where.start == self._head.weight_VH.shape[0]:
            self._whole = logits_nv
        return logits_nv

    def _compute(self, where: slice) -> torch.Tensor:
        weight_vH = self._head.weight_VH[where].to(self._hidden_nH.dtype)
        logits_nv = _wide(self._hidden_nH @ weight_vH.T)
        cap = self._head.softcap
        return logits_nv if cap is None else cap * torch.tanh(logits_nv / cap)

    def log_sum_exp(self, temperature: float) -> torch.Tensor:
        """log Σ exp(z/τ), [n]."""
        parts = [(logits_nv / temperature).logsumexp(dim=-1) for _, logits_nv in self.slices()]
        return torch.stack(parts).logsumexp(dim=0)

    def realised(self, token_n: torch.Tensor) -> torch.Tensor:
        """The logit of each token, [n]."""
        found_n = self._hidden_nH.new_zeros(token_n.shape, dtype=_wide(self._hidden_nH[:0]).dtype)
        for where, logits_nv in self.slices():
            inside_n, local_n = _in_slice(token_n, where)
            found_n = torch.where(inside_n, logits_nv.gather(1, local_n[:, None])[:, 0], found_n)
        return found_n


def _wide(values: torch.Tensor) -> torch.Tensor:
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def _in_slice(token_n: torch.Tensor, where: slice) -> tuple[torch.Tensor, torch.Tensor]:
    inside_n = (token_n >= where.start) & (token_n < where.stop)
    return inside_n, (token_n - where.start).clamp(0, where.stop - where.start - 1)


@torch.no_grad()
def realised_logp(
    hidden_NH: torch.Tensor, head: Head, token_N: torch.Tensor, tiles: Tiles = DEFAULT_TILES
) -> torch.Tensor:
    """log π of each token at τ = 1, [N], nats."""
    size = tiles.tokens(head.weight_VH.shape[0])
    parts = [_wide(hidden_NH[:0]).sum(dim=-1)]
    for start in range(0, hidden_NH.shape[0], size):
        logits = _Logits(hidden_NH[start : start + size], head, tiles)
        parts.append(logits.realised(token_N[start : start + size]) - logits.log_sum_exp(1.0))
    return torch.cat(parts)


@dataclass
class _Values:
    """Per-token values of a tile."""

    tempered_lse_n: torch.Tensor
    plain_lse_n: torch.Tensor
    teacher_lse_n: torch.Tensor
    logp_n: torch.Tensor
    entropy_n: torch.Tensor
    divergence_n: torch.Tensor
    slope_n: torch.Tensor
    """Σ_v S·∂D/∂S, what the softmax subtracts in the gradient."""


@dataclass(frozen=True)
class _Settings:
    objective: Objective
    clip_bound: float | None
    tiles: Tiles

    @property
    def diverges(self) -> bool:
        features = self.objective.features
        return features is None or not features.alone


def self_distillation_loss(
    tokens: Tokens,
    objective: Objective,
    coefficients: Coefficients,
    clip_bound: float | None = None,
    *,
    tiles: Tiles = DEFAULT_TILES,
) -> Loss:
    """The same as `naive.self_distillation_loss`, with gradient to the student's hidden states and output layer."""
    settings = _Settings(objective, clip_bound, tiles)
    head_gradient = (
        torch.zeros_like(tokens.student_head.weight_VH, dtype=_wide(tokens.student_NH[:0]).dtype)
        if tokens.student_head.weight_VH.requires_grad
        else None
    )
    with torch.no_grad():
        size = tiles.tokens(tokens.student_head.weight_VH.shape[0])
        count = tokens.student_NH.shape[0]
        parts = [
            _tile(
                _cut(tokens, slice(start, start + size)),
                _cut(coefficients, slice(start, start + size)),
                settings,
                head_gradient,
            )
            for start in range(0, max(count, 1), size)
        ]
    gradient_NH = torch.cat([part.pop("gradient") for part in parts])
    value = sum(part.pop("value") for part in parts)
    squares = sum((part.pop("squares") for part in parts), Squares())
    per_token = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    attached = _Attach.apply(  # type: ignore[no-untyped-call]
        tokens.student_NH, tokens.student_head.weight_VH, value, gradient_NH, head_gradient
    )
    return Loss(value=attached, squares=squares, **per_token)


class _Attach(torch.autograd.Function):
    """A scalar whose gradients are known already."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> torch.Tensor:
        student_NH, weight_VH, value, gradient_NH, head_gradient = inputs
        ctx.gradients = (gradient_NH.to(student_NH.dtype), head_gradient)
        ctx.head_dtype = weight_VH.dtype
        return value.clone() if isinstance(value, torch.Tensor) else torch.tensor(value)

    @staticmethod
    def backward(ctx: Any, *outputs: Any) -> Any:
        hidden, head = ctx.gradients
        scaled_head = None if head is None else (head * outputs[0]).to(ctx.head_dtype)
        return hidden * outputs[0], scaled_head, None, None, None


def _cut(record: Any, where: slice) -> Any:
    """The same record over some of its tokens."""
    kept = {name: value[where] if isinstance(value, torch.Tensor) else value for name, value in vars(record).items()}
    return type(record)(**kept)


def _tile(
    tokens: Tokens, coefficients: Coefficients, settings: _Settings, head_gradient: torch.Tensor | None
) -> dict[str, Any]:
    """Everything about one tile of tokens; adds to `head_gradient` in place."""
    objective = settings.objective
    student = _Logits(tokens.student_NH.detach(), tokens.student_head, settings.tiles)
    teacher = _Logits(tokens.teacher_NH, tokens.teacher_head, settings.tiles)
    values = _values(student, teacher, tokens.token_N, settings)
    bound = math.inf if settings.clip_bound is None else settings.clip_bound
    below_n = (values.divergence_n < bound).to(values.logp_n.dtype)
    hinge_n, pull_n = _contrast(values.logp_n, tokens, coefficients, objective)
    slopes = _Slopes(coefficients.divergence_N * below_n, pull_n)
    divergence_nH, contrast_nH = _gradients(student, teacher, tokens, values, slopes, settings, head_gradient)
    distance_n, features_nH = _features(tokens, coefficients, objective)
    clipped_n = values.divergence_n.clamp(max=bound)
    value = (coefficients.divergence_N * clipped_n).sum()
    if objective.contrastive is not None:
        value = value + objective.contrastive.weight * (coefficients.contrastive_N * hinge_n).sum()
    if objective.features is not None:
        value = value + objective.features.weight * (coefficients.features_N * distance_n).sum()
    rest_nH = pull_n[:, None] * contrast_nH + features_nH
    return {
        "value": value,
        "gradient": slopes.divergence_n[:, None] * divergence_nH + rest_nH,
        "squares": _squares(divergence_nH, pull_n[:, None] * contrast_nH, features_nH, coefficients, below_n),
        "divergence_N": values.divergence_n,
        "entropy_N": values.entropy_n,
        "student_logp_N": values.logp_n,
        "hinge_N": hinge_n,
        "distance_N": distance_n,
    }


@dataclass(frozen=True)
class _Slopes:
    """What a token's gradients are multiplied by."""

    divergence_n: torch.Tensor
    pull_n: torch.Tensor


def _values(student: _Logits, teacher: _Logits, token_n: torch.Tensor, settings: _Settings) -> _Values:
    temperature, alpha = settings.objective.temperature, settings.objective.divergence.alpha
    plain_lse_n = student.log_sum_exp(1.0)
    tempered_lse_n = student.log_sum_exp(temperature)
    zeros_n = torch.zeros_like(plain_lse_n)
    values = _Values(
        tempered_lse_n=tempered_lse_n,
        plain_lse_n=plain_lse_n,
        teacher_lse_n=teacher.log_sum_exp(temperature) if settings.diverges else zeros_n,
        logp_n=student.realised(token_n) - plain_lse_n,
        entropy_n=tempered_lse_n.clone(),
        divergence_n=zeros_n.clone(),
        slope_n=zeros_n.clone(),
    )
    for where, logits_nv in student.slices():
        log_s_nv = logits_nv / temperature - tempered_lse_n[:, None]
        values.entropy_n -= (log_s_nv.exp() * (logits_nv / temperature)).sum(dim=-1)
        if settings.diverges:
            log_p_nv = teacher.at(where) / temperature - values.teacher_lse_n[:, None]
            divergence_n, slope_n = _divergence(log_s_nv, log_p_nv, alpha)
            values.divergence_n += divergence_n
            values.slope_n += slope_n
    return values


def _derivative(log_s_nv: torch.Tensor, log_p_nv: torch.Tensor, alpha: float) -> torch.Tensor:
    """∂D/∂S up to a constant, [n, v], for α > 0."""
    if alpha == 1.0:
        return log_s_nv - log_p_nv
    log_m_nv = torch.logaddexp(log_s_nv + math.log1p(-alpha), log_p_nv + math.log(alpha))
    return (1.0 - alpha) * (log_s_nv - log_m_nv)


def _divergence(log_s_nv: torch.Tensor, log_p_nv: torch.Tensor, alpha: float) -> tuple[torch.Tensor, torch.Tensor]:
    """This slice's share of D and of Σ S·∂D/∂S, [n] each."""
    if alpha == 0.0:
        divergence_n = (log_p_nv.exp() * (log_p_nv - log_s_nv)).sum(dim=-1)
        return divergence_n, torch.zeros_like(divergence_n)
    slope_n = (log_s_nv.exp() * _derivative(log_s_nv, log_p_nv, alpha)).sum(dim=-1)
    if alpha == 1.0:
        return slope_n, slope_n
    log_m_nv = torch.logaddexp(log_s_nv + math.log1p(-alpha), log_p_nv + math.log(alpha))
    return slope_n + alpha * (log_p_nv.exp() * (log_p_nv - log_m_nv)).sum(dim=-1), slope_n


def _contrast(
    logp_n: torch.Tensor, tokens: Tokens, coefficients: Coefficients, objective: Objective
) -> tuple[torch.Tensor, torch.Tensor]:
    """The hinge and the coefficient of ∂ℓS in the loss, [n] each."""
    if objective.contrastive is None:
        return torch.zeros_like(logp_n), torch.zeros_like(logp_n)
    assert tokens.teacher_logp_N is not None
    assert tokens.negative_logp_N is not None
    hinge_n = hinge(logp_n, tokens.teacher_logp_N, tokens.negative_logp_N, objective.contrastive)
    direction_n = (logp_n - tokens.teacher_logp_N).sign() - (logp_n - tokens.negative_logp_N).sign()
    pull_n = objective.contrastive.weight * coefficients.contrastive_N * direction_n * (hinge_n > 0)
    return hinge_n, pull_n


def _gradients(
    student: _Logits,
    teacher: _Logits,
    tokens: Tokens,
    values: _Values,
    slopes: _Slopes,
    settings: _Settings,
    head_gradient: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """∂D/∂h and ∂ℓS/∂h of each token, [n, H] each, unscaled; adds the scaled ones to `head_gradient`."""
    weight_VH, cap = tokens.student_head.weight_VH, tokens.student_head.softcap
    hidden_nH = tokens.student_NH.detach()
    divergence_nH = _wide(torch.zeros_like(hidden_nH))
    contrast_nH = torch.zeros_like(divergence_nH)
    pulls = bool((slopes.pull_n != 0).any())
    if not (settings.diverges or pulls):
        return divergence_nH, contrast_nH
    for where, logits_nv in student.slices():
        bend_nv = 1.0 if cap is None else 1.0 - (logits_nv / cap).square()
        weight_vH = weight_VH[where].to(hidden_nH.dtype)
        scaled_nv: torch.Tensor | float = 0.0
        if settings.diverges:
            step_nv = bend_nv * _logit_gradient(logits_nv, teacher.at(where), values, settings)
            divergence_nH += step_nv.to(hidden_nH.dtype) @ weight_vH
            scaled_nv = slopes.divergence_n[:, None] * step_nv
        if pulls:
            step_nv = -(logits_nv - values.plain_lse_n[:, None]).exp()
            inside_n, local_n = _in_slice(tokens.token_N, where)
            step_nv.scatter_add_(1, local_n[:, None], inside_n.to(step_nv.dtype)[:, None])
            step_nv = step_nv * bend_nv
            contrast_nH += step_nv.to(hidden_nH.dtype) @ weight_vH
            scaled_nv = scaled_nv + slopes.pull_n[:, None] * step_nv
        if head_gradient is not None:
            assert isinstance(scaled_nv, torch.Tensor)
            head_gradient[where] += scaled_nv.T @ hidden_nH.to(scaled_nv.dtype)
    return divergence_nH, contrast_nH


def _logit_gradient(
    student_nv: torch.Tensor, teacher_nv: torch.Tensor, values: _Values, settings: _Settings
) -> torch.Tensor:
    """∂D/∂z of a slice, [n, v]: (S−P)/τ for α = 0, else S·(∂D/∂S − Σ S·∂D/∂S)/τ."""
    temperature, alpha = settings.objective.temperature, settings.objective.divergence.alpha
    log_s_nv = student_nv / temperature - values.tempered_lse_n[:, None]
    log_p_nv = teacher_nv / temperature - values.teacher_lse_n[:, None]
    if alpha == 0.0:
        return (log_s_nv.exp() - log_p_nv.exp()) / temperature
    derivative_nv = _derivative(log_s_nv, log_p_nv, alpha) - values.slope_n[:, None]
    return log_s_nv.exp() * derivative_nv / temperature


def _features(tokens: Tokens, coefficients: Coefficients, objective: Objective) -> tuple[torch.Tensor, torch.Tensor]:
    """The distance of each token, [n], and the gradient of its term, [n, H]."""
    student_nH, teacher_nH = _wide(tokens.student_NH.detach()), _wide(tokens.teacher_NH)
    if objective.features is None:
        return torch.zeros_like(student_nH[:, 0]), torch.zeros_like(student_nH)
    scale_n = objective.features.weight * coefficients.features_N * (2.0 / student_nH.shape[-1])
    return feature_distance(tokens.student_NH.detach(), tokens.teacher_NH), scale_n[:, None] * (student_nH - teacher_nH)


def _squares(
    divergence_nH: torch.Tensor,
    contrast_nH: torch.Tensor,
    features_nH: torch.Tensor,
    coefficients: Coefficients,
    below_n: torch.Tensor,
) -> Squares:
    rest_nH = contrast_nH + features_nH
    weighted_nH = (coefficients.divergence_N * below_n)[:, None] * divergence_nH
    unweighted_nH = (coefficients.unweighted_N * below_n)[:, None] * divergence_nH
    unclipped_nH = coefficients.divergence_N[:, None] * divergence_nH
    norms = [
        weighted_nH,
        contrast_nH,
        features_nH,
        weighted_nH - unweighted_nH,
        unweighted_nH + rest_nH,
        weighted_nH - unclipped_nH,
        unclipped_nH + rest_nH,
    ]
    return Squares(*(float(value.square().sum()) for value in norms))
