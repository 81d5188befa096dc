"""Each per-token term against figures computed by hand, and its limits."""

import math

import pytest
import torch

from unisd.config.objective import Contrastive, divergence_bound
from unisd.objective.terms import clipped, divergence, feature_distance, hinge

S, P = (0.5, 0.5), (0.9, 0.1)


def _logs(*rows: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64).log()


def _kl(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(first, second, strict=True))


def test_alpha_0_is_the_forward_divergence_and_1_the_reverse() -> None:
    assert float(divergence(_logs(S), _logs(P), 0.0)) == pytest.approx(_kl(P, S))
    assert float(divergence(_logs(S), _logs(P), 1.0)) == pytest.approx(_kl(S, P))


@pytest.mark.parametrize("alpha", [0.2, 0.5, 0.9])
def test_between_alpha_weighs_the_teacher(alpha: float) -> None:
    mixture = tuple((1 - alpha) * s + alpha * p for s, p in zip(S, P, strict=True))
    expected = alpha * _kl(P, mixture) + (1 - alpha) * _kl(S, mixture)
    assert float(divergence(_logs(S), _logs(P), alpha)) == pytest.approx(expected)


def test_equal_distributions_have_no_divergence() -> None:
    for alpha in (0.0, 0.3, 1.0):
        assert float(divergence(_logs(P), _logs(P), alpha)) == pytest.approx(0.0, abs=1e-15)


def test_over_alpha_the_mixture_tends_to_the_ends() -> None:
    small = 1e-6
    assert float(divergence(_logs(S), _logs(P), small)) / small == pytest.approx(_kl(P, S), rel=1e-4)
    assert float(divergence(_logs(S), _logs(P), 1 - small)) / small == pytest.approx(_kl(S, P), rel=1e-4)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.8])
def test_the_bound_is_reached_by_distributions_that_share_nothing(alpha: float) -> None:
    apart = torch.tensor([[0.0, -400.0], [-400.0, 0.0]], dtype=torch.float64)
    reached = float(divergence(apart[:1], apart[1:], alpha))
    assert reached == pytest.approx(divergence_bound(alpha), rel=1e-9)
    assert divergence_bound(alpha) <= math.log(2.0) + 1e-12


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_probabilities_that_underflow_give_finite_values_and_gradients(alpha: float) -> None:
    student_NV = torch.tensor([[0.0, -300.0, -300.0]], requires_grad=True)
    value_N = divergence(student_NV, torch.tensor([[-300.0, 0.0, -300.0]]), alpha)
    value_N.sum().backward()
    assert value_N.isfinite().all()
    assert student_NV.grad is not None
    assert student_NV.grad.isfinite().all()


def test_clipping_bounds_the_value_and_stops_the_gradient() -> None:
    d_N = torch.tensor([0.5, 2.0, 3.0], requires_grad=True)
    value_N = clipped(d_N, 2.0)
    value_N.sum().backward()
    torch.testing.assert_close(value_N.detach(), torch.tensor([0.5, 2.0, 2.0]))
    torch.testing.assert_close(d_N.grad, torch.tensor([1.0, 0.0, 0.0]))
    torch.testing.assert_close(clipped(d_N, None), d_N)
    torch.testing.assert_close(clipped(d_N, math.inf), d_N)


@pytest.mark.parametrize(
    ("student", "positive", "negative", "expected", "slope"),
    [
        (-2.0, -1.0, -4.0, 0.0, 0.0),  # 0.5 + 1 − 2 < 0: near enough to the teacher
        (-3.0, -1.0, -4.0, 1.5, -2.0),  # 0.5 + 2 − 1: between the two, towards the teacher
        (-0.5, -1.0, -1.2, 0.3, 0.0),  # 0.5 + 0.5 − 0.7: outside the interval the slopes cancel
        (-1.0, -2.0, -2.0, 0.5, 0.0),  # equal teachers leave the margin, and no gradient
    ],
)
def test_the_hinge(student: float, positive: float, negative: float, expected: float, slope: float) -> None:
    student_N = torch.tensor([student], requires_grad=True)
    value_N = hinge(student_N, torch.tensor([positive]), torch.tensor([negative]), Contrastive(margin=0.5))
    value_N.sum().backward()
    assert float(value_N.detach()) == pytest.approx(expected)
    assert float(student_N.grad) == slope


def test_a_wider_margin_pushes_further() -> None:
    values = [
        float(hinge(torch.tensor(-2.0), torch.tensor(-1.0), torch.tensor(-4.0), Contrastive(margin=margin)))
        for margin in (0.0, 1.0, 1.5, 3.0)
    ]
    assert values == pytest.approx([0.0, 0.0, 0.5, 2.0])


def test_the_feature_distance_is_a_mean_over_hidden_dimensions() -> None:
    student_NH, teacher_NH = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 4.0], [0.0, 0.0]])
    torch.testing.assert_close(feature_distance(student_NH, teacher_NH), torch.tensor([2.5, 0.0]))
