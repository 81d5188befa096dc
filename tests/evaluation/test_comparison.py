"""Intervals and comparisons, by hand and by simulation."""

import math

import numpy as np
import pytest

from unisd.evaluation import comparison as c


def test_wilson_by_hand():
    low, high = c.wilson(8, 10)
    assert (low, high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    assert c.wilson(0, 10)[0] == 0.0
    assert c.wilson(0, 10)[1] > 0.2
    assert c.wilson(0, 0) == (0.0, 1.0)


def test_mcnemar_by_hand():
    ours, theirs = [1] * 8 + [0] * 2 + [1] * 5, [0] * 8 + [1] * 2 + [1] * 5
    # 8 wins against 2: 2 · P(X ≤ 2), X ~ Binomial(10, ½) = 2 · 56 / 1024.
    assert c.mcnemar(ours, theirs) == pytest.approx(112 / 1024)
    assert c.mcnemar([1, 0], [1, 0]) == 1.0


def test_holm_by_hand():
    found = c.holm({name: c.Difference(0, 0, 0, p) for name, p in {"a": 0.01, "b": 0.04, "c": 0.03}.items()})
    assert [found[name].p_holm for name in "abc"] == [pytest.approx(0.03), pytest.approx(0.06), pytest.approx(0.06)]
    assert found["a"].differs
    assert not found["b"].differs


def test_perplexity_is_of_the_corpus_not_a_mean_of_items():
    found = c.perplexity([[2.0, 30.0]], [[1, 10]])
    assert found.value == pytest.approx(math.exp(32 / 11))
    assert found.low <= found.value <= found.high
    short, long = 20, 20
    found = c.perplexity([[4.0] * short + [100.0] * long], [[1] * short + [100] * long])
    assert found.value == pytest.approx(math.exp(2080 / 2020))
    assert found.low < found.value < found.high < math.exp(1.5)


def test_a_perplexity_deviates_between_seeds_by_the_perplexity_of_each():
    found = c.perplexity([[2.0, 30.0], [4.0, 10.0]], [[1, 10], [1, 10]])
    assert found.seed_deviation == pytest.approx(np.std([math.exp(32 / 11), math.exp(14 / 11)], ddof=1))


def test_an_interval_holds_95_percent():
    found = c.mean([0.0, 1.0] * 200)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * 0.5 / 20, abs=0.003)


def test_seeds_are_resampled_within_items():
    """Items that are all alike leave the doubt between their seeds."""
    seeds = [[1.0] * 50, [0.0] * 50]
    found = c.proportion(seeds)
    assert found.low < 0.45 < 0.55 < found.high
    found = c.difference(seeds, seeds[::-1])
    assert found.low < -0.05 < 0.05 < found.high


def test_scores_are_averaged_over_seeds_and_their_deviation_told():
    found = c.proportion([[1, 1, 0, 0], [1, 0, 0, 0]])
    assert found.value == pytest.approx(0.375)
    assert found.seed_deviation == pytest.approx(np.std([0.5, 0.25], ddof=1))
    assert found.items == 4
    assert c.proportion([[1, 0]]).seed_deviation is None


def test_scores_that_are_all_alike_still_leave_doubt():
    for value in (0.0, 1.0):
        one, two = c.proportion([[value] * 20]), c.proportion([[value] * 20] * 2)
        assert (two.low, two.high) == (one.low, one.high)
        assert two.high - two.low > 0.1
        assert two.seed_deviation == 0.0


def test_pairing_sees_what_independent_intervals_do_not():
    rng = np.random.default_rng(1)
    base = (rng.random(200) < 0.5).astype(float)
    better = base.copy()
    better[np.flatnonzero(base == 0)[:12]] = 1.0
    found = c.difference([better], [base])
    assert found.value == pytest.approx(0.06)
    assert 0 < found.low < 0.06 < found.high
    assert found.p == pytest.approx(2 * 0.5**12)
    ours, theirs = c.proportion([better]), c.proportion([base])
    assert ours.low < theirs.high


def test_no_number_of_resamples_makes_a_p_value_of_nothing():
    certain = c.difference([[1.0] * 50] * 2, [[0.0] * 50] * 2)
    assert certain.p == 2 / (c.RESAMPLES + 1)
    assert c.difference([[1.0, 0.0] * 25] * 2, [[0.0, 1.0] * 25] * 2).p > 0.5
    assert c.difference([[1.0] * 50] * 2, [[1.0] * 50] * 2).p == 1.0


def test_intervals_cover():
    rng = np.random.default_rng(2)
    inside = 0
    for _ in range(60):
        truth = rng.random(120)
        scores = (rng.random((3, 120)) < truth).astype(float)
        found = c.proportion(scores)
        inside += found.low <= 0.5 <= found.high
    assert inside >= 51


def test_results_are_deterministic():
    scores = [[1, 0, 1, 1, 0], [0, 0, 1, 1, 1]]
    assert c.proportion(scores) == c.proportion(scores)
    assert c.difference(scores, scores[::-1]) == c.difference(scores, scores[::-1])
