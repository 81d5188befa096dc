"""Agreement of teachers with different auxiliary contexts: disagreement d, weights w, and the gate.

UniSD (arXiv 2605.06597) §3; the weights differ from its code as docs/differences.md says. Legend: K contexts, N tokens,
R rows. All log-probabilities at τ = 1, in nats.
"""

import torch

from unisd.config.objective import Agreement, AgreementStatistic


def spread(values_KX: torch.Tensor, statistic: AgreementStatistic) -> torch.Tensor:
    """Population variance (divisor K, nats²) or range (nats) over the contexts, [X].

    Raises:
        ValueError: fewer than two contexts: there is nothing to agree.
    """
    if values_KX.shape[0] < 2:
        raise ValueError(f"agreement needs at least 2 auxiliary contexts, got {values_KX.shape[0]}")
    if statistic == "variance":
        return values_KX.var(dim=0, correction=0)
    return values_KX.amax(dim=0) - values_KX.amin(dim=0)


def row_means(values_N: torch.Tensor, mask_N: torch.Tensor, row_N: torch.Tensor, rows: int) -> torch.Tensor:
    """Masked mean of each row, [R]; 0 for rows without a token."""
    total_R = values_N.new_zeros(rows).index_add(0, row_N, values_N * mask_N)
    count_R = values_N.new_zeros(rows).index_add(0, row_N, mask_N)
    return total_R / count_R.clamp(min=1.0)


def disagreement(
    logp_KN: torch.Tensor, mask_N: torch.Tensor, row_N: torch.Tensor, rows: int, agreement: Agreement
) -> torch.Tensor:
    """Disagreement d of every token, [N]; at sequence level that of its row's mean log-probabilities."""
    if agreement.level == "token":
        return spread(logp_KN, agreement.statistic)
    means_KR = torch.stack([row_means(logp_N, mask_N, row_N, rows) for logp_N in logp_KN])
    return spread(means_KR, agreement.statistic)[row_N]


def quantile_scale(disagreement_N: torch.Tensor, mask_N: torch.Tensor, agreement: Agreement) -> float:
    """What scale `quantile` divides by: a quantile of the unmasked tokens of the whole step, at least 1e-6."""
    kept = disagreement_N[mask_N > 0]
    return max(1e-6, exact_quantile(kept, agreement.quantile)) if kept.numel() else 1.0


def exact_quantile(values: torch.Tensor, quantile: float) -> float:
    """Linear-interpolated quantile of any number of values (torch.quantile stops at 16 million).

    Raises:
        ValueError: there are no values.
    """
    if values.numel() == 0:
        raise ValueError("a quantile of no values does not exist")
    ordered = values.double().sort().values
    position = quantile * (ordered.numel() - 1)
    low = int(position)
    high = min(low + 1, ordered.numel() - 1)
    return float(ordered[low] + (ordered[high] - ordered[low]) * (position - low))


def weights(disagreement_N: torch.Tensor, agreement: Agreement, scale: float = 1.0) -> torch.Tensor:
    """Weights in (0, 1], [N]: 1/(1+γd) for tokens, exp(−γd) for sequences; `scale` serves scale `quantile`."""
    if agreement.level == "sequence":
        return torch.exp(-agreement.strength * disagreement_N)
    if agreement.scale == "quantile":
        disagreement_N = (disagreement_N / scale).clamp(max=agreement.cap)
    return 1.0 / (1.0 + agreement.strength * disagreement_N)


def effective_share(weight: torch.Tensor) -> float:
    """Effective sample size (Σw)²/Σw² over the number of weights, in (0, 1]; 1 where all are equal."""
    if weight.numel() == 0:
        return 1.0
    return float(weight.sum().square() / weight.square().sum().clamp(min=1e-30) / weight.numel())


def gated_rows(surprisal: list[float], quantile: float) -> list[bool]:
    """Which completions of a whole step to score: those whose mean surprisal lies above the quantile."""
    if not surprisal:
        return []
    threshold = exact_quantile(torch.tensor(surprisal, dtype=torch.float64), quantile)
    return [value > threshold for value in surprisal]
