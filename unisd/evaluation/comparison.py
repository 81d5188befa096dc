"""Scores with intervals, and whether components differ: paired over items, seeds nested within them.

The unit is the item. Scores are averaged over seeds within an item, then items are resampled; within each of them
its seeds are resampled too. Everything is deterministic. Pure; knows no files.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, norm

RESAMPLES = 2000
_SEED = 20260


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float
    items: int
    seed_deviation: float | None = None
    """Standard deviation between seeds; None with one seed."""


@dataclass(frozen=True)
class Difference:
    """How far a component lies from another, over the same items."""

    value: float
    low: float
    high: float
    p: float
    """Two-sided p value: exact McNemar with one seed, paired bootstrap with several."""
    p_holm: float = 1.0
    """The same after Holm's correction over the comparisons of a run."""

    @property
    def differs(self) -> bool:
        """Whether the corrected p value is below 0.05."""
        return self.p_holm < 0.05


def wilson(successes: float, items: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a proportion; right also near 0 and 1, where resampling says nothing."""
    if items == 0:
        return 0.0, 1.0
    z = float(norm.ppf(0.975))
    share = successes / items
    centre = share + z * z / (2 * items)
    spread = z * math.sqrt(share * (1 - share) / items + z * z / (4 * items * items))
    scale = 1 + z * z / items
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def proportion(scores_SI: Sequence[Sequence[float]]) -> Estimate:
    """A mean of 0/1 scores, [seeds, items]: Wilson with one seed, bootstrap over items with several.

    Where all scores are alike, resampling knows no doubt: Wilson's interval stands there too.
    """
    scores = np.asarray(scores_SI, dtype=float)
    value, items = float(scores.mean()), scores.shape[1]
    deviation = float(scores.mean(axis=1).std(ddof=1)) if scores.shape[0] > 1 else None
    if deviation is None or value in (0.0, 1.0):
        return Estimate(value, *wilson(value * items, items), items, deviation)
    low, high = _interval(_resampled(scores).mean(axis=(0, 1)))
    return Estimate(value, low, high, items, deviation)


def mean(values_I: Sequence[float]) -> Estimate:
    """A mean over items of any figure, its interval by resampling items."""
    values = np.asarray([values_I], dtype=float)
    low, high = _interval(_resampled(values).mean(axis=(0, 1)))
    return Estimate(float(values.mean()), low, high, values.shape[1])


def perplexity(nats_SI: Sequence[Sequence[float]], tokens_SI: Sequence[Sequence[float]]) -> Estimate:
    """exp(Σ nats / Σ tokens) over all items and seeds, its interval by resampling items."""
    nats, tokens = np.asarray(nats_SI, dtype=float), np.asarray(tokens_SI, dtype=float)
    value = float(np.exp(nats.sum() / tokens.sum()))
    both = _resampled(np.stack([nats, tokens], axis=-1))
    low, high = _interval(np.exp(both[..., 0, :].sum(axis=(0, 1)) / both[..., 1, :].sum(axis=(0, 1))))
    per_seed = np.exp(nats.sum(axis=1) / tokens.sum(axis=1))
    deviation = float(per_seed.std(ddof=1)) if len(per_seed) > 1 else None
    return Estimate(value, low, high, nats.shape[1], deviation)


def difference(ours_SI: Sequence[Sequence[float]], theirs_SI: Sequence[Sequence[float]]) -> Difference:
    """Mean paired difference over items, with a paired bootstrap interval."""
    ours, theirs = np.asarray(ours_SI, dtype=float), np.asarray(theirs_SI, dtype=float)
    value = float(ours.mean() - theirs.mean())
    rng = np.random.default_rng(_SEED)
    items = rng.integers(0, ours.shape[1], size=(RESAMPLES, ours.shape[1]))
    means = _nested_means(ours, items, rng) - _nested_means(theirs, items, rng)
    low, high = _interval(means)
    if ours.shape[0] == 1 and theirs.shape[0] == 1:
        return Difference(value, low, high, mcnemar(ours[0].tolist(), theirs[0].tolist()))
    # The observed sample counts as one more of them: no finite number of resamples says that something never happens.
    tail = (1 + min(int((means <= 0).sum()), int((means >= 0).sum()))) / (1 + RESAMPLES)
    return Difference(value, low, high, min(1.0, 2 * tail))


def mcnemar(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Exact McNemar test on 0/1 scores of the same items: two-sided p value."""
    wins = sum(a > b for a, b in zip(ours, theirs, strict=True))
    losses = sum(a < b for a, b in zip(ours, theirs, strict=True))
    return float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def holm(differences: Mapping[str, Difference]) -> dict[str, Difference]:
    """The differences with Holm's correction over all of them."""
    corrected: dict[str, Difference] = {}
    running = 0.0
    ranked = sorted(differences, key=lambda name: differences[name].p)
    for rank, name in enumerate(ranked):
        found = differences[name]
        running = max(running, min(1.0, found.p * (len(ranked) - rank)))
        corrected[name] = Difference(found.value, found.low, found.high, found.p, running)
    return {name: corrected[name] for name in differences}


def _nested_means(scores_SI: np.ndarray, items_BI: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Means [B] over resampled items, each with its seeds resampled."""
    seeds_SI = scores_SI.shape[0]
    if seeds_SI == 1:
        return np.asarray(scores_SI[0][items_BI].mean(axis=1))
    seeds_SBI = rng.integers(0, seeds_SI, size=(seeds_SI, *items_BI.shape))
    return np.asarray(scores_SI[seeds_SBI, items_BI[None]].mean(axis=(0, 2)))


def _resampled(values_SI: np.ndarray) -> np.ndarray:
    """Values [S, I, ..., B] of items resampled with replacement, seeds nested."""
    rng = np.random.default_rng(_SEED)
    seeds, items = values_SI.shape[:2]
    items_BI = rng.integers(0, items, size=(RESAMPLES, items))
    seeds_SBI = rng.integers(0, seeds, size=(seeds, RESAMPLES, items))
    found = values_SI[seeds_SBI, items_BI[None]]
    return np.moveaxis(found, 1, -1)


def _interval(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
