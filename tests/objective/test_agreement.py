"""Disagreement, weights, effective sample size and gate against figures computed by hand."""

import math

import pytest
import torch

from unisd.config.objective import Agreement, Gate
from unisd.objective import agreement as agree

LOGP_KN = torch.tensor([[-1.0, -2.0, -4.0], [-2.0, -2.0, -1.0], [-3.0, -2.0, -1.0]])
ONE_ROW = torch.zeros(3, dtype=torch.long)
KEPT = torch.ones(3)


def test_the_variance_of_tokens_has_divisor_k() -> None:
    d_N = agree.disagreement(LOGP_KN, KEPT, ONE_ROW, 1, Agreement(level="token", statistic="variance"))
    # Contexts (-1, -2, -3): squares 1 + 0 + 1 over 3; (-4, -1, -1): mean -2, squares 4 + 1 + 1 over 3.
    torch.testing.assert_close(d_N, torch.tensor([2 / 3, 0.0, 2.0]))


def test_the_range_of_tokens() -> None:
    d_N = agree.disagreement(LOGP_KN, KEPT, ONE_ROW, 1, Agreement(level="token", statistic="range"))
    torch.testing.assert_close(d_N, torch.tensor([2.0, 0.0, 3.0]))


def test_a_sequence_is_compared_by_its_masked_mean() -> None:
    mask_N, row_N = torch.tensor([1.0, 1.0, 0.0]), torch.tensor([0, 0, 0])
    d_N = agree.disagreement(LOGP_KN, mask_N, row_N, 1, Agreement(level="sequence", statistic="range"))
    # Means of the first two tokens: -1.5, -2, -2.5.
    torch.testing.assert_close(d_N, torch.full((3,), 1.0))


def test_rows_are_compared_apart_and_an_empty_one_agrees() -> None:
    mask_N, row_N = torch.tensor([1.0, 0.0, 1.0]), torch.tensor([0, 1, 2])
    d_N = agree.disagreement(LOGP_KN, mask_N, row_N, 4, Agreement(level="sequence", statistic="variance"))
    torch.testing.assert_close(d_N, torch.tensor([2 / 3, 0.0, 2.0]))


def test_one_context_has_nothing_to_agree_with() -> None:
    with pytest.raises(ValueError, match="at least 2 auxiliary contexts, got 1"):
        agree.disagreement(LOGP_KN[:1], KEPT, ONE_ROW, 1, Agreement())


def test_token_weights_fall_as_one_over_one_plus_gamma_d() -> None:
    weight_N = agree.weights(torch.tensor([0.0, 1.0, 3.0]), Agreement(level="token", gamma=1.0))
    torch.testing.assert_close(weight_N, torch.tensor([1.0, 0.5, 0.25]))


def test_sequence_weights_fall_exponentially() -> None:
    weight_N = agree.weights(torch.tensor([0.0, 0.2]), Agreement(level="sequence", gamma=10.0))
    torch.testing.assert_close(weight_N, torch.tensor([1.0, math.exp(-2.0)]))


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_a_larger_gamma_weighs_less_and_none_is_neutral(level: str) -> None:
    d_N = torch.tensor([0.3, 2.0])
    small, large = (agree.weights(d_N, Agreement(level=level, gamma=gamma)) for gamma in (0.5, 2.0))
    assert (large < small).all()
    torch.testing.assert_close(agree.weights(d_N, Agreement(level=level, gamma=1e-9)), torch.ones(2))


@pytest.mark.parametrize(
    ("level", "statistic", "typical"),
    [
        ("token", "variance", 1.0),
        ("token", "range", 20 / 3),
        ("sequence", "variance", 0.069),
        ("sequence", "range", 1.4),
    ],
)
def test_the_default_gamma_halves_the_weight_of_a_typical_disagreement(
    level: str, statistic: str, typical: float
) -> None:
    weight_N = agree.weights(torch.tensor([typical]), Agreement(level=level, statistic=statistic))
    assert float(weight_N) == pytest.approx(0.5, abs=0.01)


def test_the_quantile_scale_divides_and_caps() -> None:
    agreement = Agreement(scale="quantile", quantile=0.5, cap=2.0, gamma=1.0)
    d_N = torch.tensor([1.0, 2.0, 3.0, 100.0, 5000.0])
    mask_N = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0])
    scale = agree.quantile_scale(d_N, mask_N, agreement)
    assert scale == pytest.approx(2.5)
    expected = torch.tensor([1 / 1.4, 1 / 1.8, 1 / 2.2, 1 / 3.0, 1 / 3.0])
    torch.testing.assert_close(agree.weights(d_N, agreement, scale), expected)
    assert agree.quantile_scale(d_N, mask_N, agreement.model_copy(update={"quantile": 1.0})) == 100.0


def test_the_quantile_scale_has_a_floor_and_survives_no_token() -> None:
    agreement = Agreement(scale="quantile")
    assert agree.quantile_scale(torch.zeros(3), torch.ones(3), agreement) == 1e-6
    assert agree.quantile_scale(torch.zeros(3), torch.zeros(3), agreement) == 1.0


@pytest.mark.parametrize("quantile", [0.0, 0.25, 0.6, 0.95, 1.0])
def test_the_exact_quantile_interpolates_as_torch_does(quantile: float) -> None:
    values = torch.randn(17, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = float(values.quantile(quantile))
    assert agree.exact_quantile(values, quantile) == pytest.approx(expected, rel=1e-12)


def test_the_quantile_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no values"):
        agree.exact_quantile(torch.zeros(0), 0.5)


def test_the_effective_share_is_one_for_equal_weights_and_counts_the_heavy_ones_otherwise() -> None:
    assert agree.effective_share(torch.full((5,), 0.3)) == pytest.approx(1.0)
    assert agree.effective_share(torch.tensor([1.0, 1.0, 0.0, 0.0])) == pytest.approx(0.5)
    assert agree.effective_share(torch.zeros(0)) == 1.0


def test_the_gate_opens_for_what_lies_above_the_quantile() -> None:
    assert agree.gated_rows([0.1, 0.4, 0.2, 0.3], Gate(quantile=0.5).quantile) == [False, True, False, True]
    assert agree.gated_rows([0.1, 0.4, 0.2, 0.3], 0.75) == [False, True, False, False]
    assert agree.gated_rows([], 0.75) == []


def test_the_gate_stays_shut_where_all_are_alike() -> None:
    # 0.1 is no binary fraction: a threshold of less precision than the values would open the gate by rounding.
    assert agree.gated_rows([0.1, 0.1, 0.1], 0.75) == [False, False, False]
