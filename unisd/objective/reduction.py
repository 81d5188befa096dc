"""What divides by what: the only place that turns per-token terms into one loss.

Rows without an unmasked token count nowhere; N is the number of the others, over all micro-steps and processes of the
optimiser step.

- token level: ℓ_i = Σ m·w·D / Σ m·w, L = (1/N) Σ_i ℓ_i
- sequence level: ℓ_i = Σ m·D / Σ m, L = Σ_i w_i·ℓ_i / Σ_i w_i
- contrastive: mean over the rows that have a negative of masked means; features: the same over all N rows

Every denominator is known before the first backward pass, so each token simply gets a coefficient.
"""

from dataclasses import dataclass

import torch

from unisd.config.objective import AgreementLevel
from unisd.objective.agreement import row_means
from unisd.objective.types import Coefficients

SMALLEST = torch.finfo(torch.float32).tiny
"""Keeps 0/0 at 0 and changes no other quotient."""


@dataclass(frozen=True)
class Denominators:
    """Sums over a whole step; those of parts add up to those of the whole."""

    rows: float
    """Rows with at least one unmasked token."""
    weight: float
    """Σ_i w_i over these rows (sequence level)."""
    negative_rows: float
    """Those of these rows that have a negative."""

    def __add__(self, other: "Denominators") -> "Denominators":
        return Denominators(
            self.rows + other.rows, self.weight + other.weight, self.negative_rows + other.negative_rows
        )


@dataclass(frozen=True)
class Masks:
    """Which tokens and rows count, and how much."""

    mask_N: torch.Tensor
    """1 where a token counts, else 0."""
    row_N: torch.Tensor
    """Row of each token, 0 ≤ row < R."""
    weight_N: torch.Tensor
    """Agreement weights; 1 without agreement, constant within a row at sequence level."""
    negative_R: torch.Tensor
    """1 for rows that have a negative, else 0."""

    @property
    def rows(self) -> int:
        """R."""
        return int(self.negative_R.shape[0])

    def counts_R(self) -> torch.Tensor:  # noqa: N802 - the suffix is the shape
        """Unmasked tokens of each row, [R]."""
        return self.mask_N.new_zeros(self.rows).index_add(0, self.row_N, self.mask_N)


def denominators(masks: Masks) -> Denominators:
    """The sums that this part of a step contributes."""
    kept_R = (masks.counts_R() > 0).to(masks.mask_N.dtype)
    weight_R = row_means(masks.weight_N, masks.mask_N, masks.row_N, masks.rows)
    return Denominators(
        rows=float(kept_R.sum()),
        weight=float((weight_R * kept_R).sum()),
        negative_rows=float((masks.negative_R * kept_R).sum()),
    )


def coefficients(masks: Masks, level: AgreementLevel, total: Denominators) -> Coefficients:
    """Coefficients of a part of a step, given the sums over the whole step."""
    count_N = masks.counts_R()[masks.row_N].clamp(min=1.0)
    mean_N = masks.mask_N / count_N
    unweighted_N = mean_N / max(total.rows, 1.0)
    if level == "sequence":
        divergence_N = mean_N * masks.weight_N / max(total.weight, SMALLEST)
    else:
        mass_R = masks.mask_N.new_zeros(masks.rows).index_add(0, masks.row_N, masks.mask_N * masks.weight_N)
        share_N = masks.mask_N * masks.weight_N / mass_R[masks.row_N].clamp(min=SMALLEST)
        divergence_N = share_N / max(total.rows, 1.0)
    return Coefficients(
        divergence_N=divergence_N,
        unweighted_N=unweighted_N,
        contrastive_N=mean_N * masks.negative_R[masks.row_N] / max(total.negative_rows, 1.0),
        features_N=unweighted_N,
    )
