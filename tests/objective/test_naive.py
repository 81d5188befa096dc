"""The oracle: gradients by finite differences; every hyperparameter matters and has a neutral value."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from unisd.config.objective import Contrastive, Features
from unisd.objective.naive import self_distillation_loss
from unisd.objective.types import Head

KINK_FREE = Contrastive(weight=0.3, margin=0.5)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("softcap", [None, 5.0])
def test_gradients_by_finite_differences(build: Callable, objective_of: Callable, alpha: float, softcap: float) -> None:
    case = build(dtype=torch.float64, separate=True, trained_head=True, softcap=softcap)
    objective = objective_of(alpha=alpha, contrastive=KINK_FREE, features=Features(weight=0.2))

    def loss(student_NH: torch.Tensor, weight_VH: torch.Tensor) -> torch.Tensor:
        tokens = replace(case.tokens, student_NH=student_NH, student_head=Head(weight_VH, softcap))
        return self_distillation_loss(tokens, objective, case.coefficients, clip_bound=0.4 if alpha else 3.0).value

    assert torch.autograd.gradcheck(
        loss, (case.tokens.student_NH, case.tokens.student_head.weight_VH), fast_mode=True, atol=1e-7
    )


def test_the_parts_add_up_to_the_loss(build: Callable, objective_of: Callable) -> None:
    case = build()
    contrastive, features = Contrastive(weight=0.3), Features(weight=0.2)
    loss = self_distillation_loss(
        case.tokens, objective_of(contrastive=contrastive, features=features), case.coefficients, clip_bound=1.0
    )
    expected = (
        (case.coefficients.divergence_N * loss.divergence_N.clamp(max=1.0)).sum()
        + 0.3 * (case.coefficients.contrastive_N * loss.hinge_N).sum()
        + 0.2 * (case.coefficients.features_N * loss.distance_N).sum()
    )
    torch.testing.assert_close(loss.value.detach(), expected)


def test_weights_of_terms_scale_them_and_vanish_with_them(build: Callable, objective_of: Callable) -> None:
    case = build()

    def value(**blocks: object) -> float:
        return float(self_distillation_loss(case.tokens, objective_of(**blocks), case.coefficients).value.detach())

    base = value()
    for block in (Contrastive, Features):
        name = block.__name__.lower()
        once, twice, none = (value(**{name: block(weight=weight)}) - base for weight in (0.5, 1.0, 1e-12))
        assert once > 0.01
        assert twice == pytest.approx(2 * once, rel=1e-4)
        assert none == pytest.approx(0.0, abs=1e-6)


def test_features_alone_leave_the_divergence_out(build: Callable, objective_of: Callable) -> None:
    case = build()
    loss = self_distillation_loss(
        case.tokens, objective_of(features=Features(weight=0.4, alone=True)), case.coefficients, clip_bound=0.1
    )
    expected = 0.4 * (case.coefficients.features_N * loss.distance_N).sum()
    torch.testing.assert_close(loss.value.detach(), expected)
    assert not loss.divergence_N.any()


def test_the_clip_lowers_the_loss_until_its_bound_is_out_of_reach(build: Callable, objective_of: Callable) -> None:
    case = build()
    objective = objective_of()
    losses = [self_distillation_loss(case.tokens, objective, case.coefficients, bound) for bound in (0.1, 1.0, None)]
    low, middle, free = (float(loss.value.detach()) for loss in losses)
    assert low < middle < free
    highest = float(losses[-1].divergence_N.max())
    beyond = self_distillation_loss(case.tokens, objective, case.coefficients, highest * 1.01)
    assert float(beyond.value.detach()) == free


def test_temperature_smooths_the_divergence_and_leaves_the_log_probabilities(
    build: Callable, objective_of: Callable
) -> None:
    case = build()
    cold, warm, hot = (
        self_distillation_loss(case.tokens, objective_of(temperature=temperature), case.coefficients)
        for temperature in (0.5, 1.0, 50.0)
    )
    assert cold.value > warm.value > hot.value
    assert (cold.entropy_N < warm.entropy_N).all()
    torch.testing.assert_close(hot.entropy_N, torch.full_like(hot.entropy_N, 53.0).log(), atol=0.02, rtol=0)
    torch.testing.assert_close(cold.student_logp_N, hot.student_logp_N)


def test_alpha_matters(build: Callable, objective_of: Callable) -> None:
    case = build()
    values = [
        float(self_distillation_loss(case.tokens, objective_of(alpha=alpha), case.coefficients).value.detach())
        for alpha in (0.0, 0.3, 0.5, 1.0)
    ]
    assert len(set(values)) == 4
    assert values[1] < 0.611  # the bound at α = 0.3
    assert values[2] < 0.694


def test_a_soft_cap_that_is_far_away_is_neutral_and_a_near_one_flattens(
    build: Callable, objective_of: Callable
) -> None:
    free, far, near = (
        self_distillation_loss(case.tokens, objective_of(), case.coefficients)
        for case in (build(softcap=cap) for cap in (None, 1e4, 1.0))
    )
    torch.testing.assert_close(far.value, free.value, rtol=1e-4, atol=1e-6)
    assert (near.entropy_N > free.entropy_N).all()


def test_the_agreement_weights_change_the_loss_and_report_their_share(build: Callable, objective_of: Callable) -> None:
    case = build()
    neutral = replace(case.coefficients, divergence_N=case.coefficients.unweighted_N)
    weighted = self_distillation_loss(case.tokens, objective_of(), case.coefficients)
    plain = self_distillation_loss(case.tokens, objective_of(), neutral)
    assert float(weighted.value.detach()) != pytest.approx(float(plain.value.detach()), rel=1e-3)
    assert weighted.squares.weights_changed > 0
    assert plain.squares.weights_changed == 0
    assert weighted.squares.weights_off == pytest.approx(plain.squares.divergence, rel=1e-5)


def test_the_squares_are_those_of_each_part_by_itself(build: Callable, objective_of: Callable) -> None:
    case = build()

    def gradient(bound: float | None, **blocks: object) -> torch.Tensor:
        value = self_distillation_loss(case.tokens, objective_of(**blocks), case.coefficients, bound).value
        return torch.autograd.grad(value, case.tokens.student_NH)[0]

    blocks = {"contrastive": Contrastive(weight=0.3), "features": Features(weight=0.2)}
    squares = self_distillation_loss(case.tokens, objective_of(**blocks), case.coefficients, 0.5).squares
    divergence_NH = gradient(0.5)
    assert squares.divergence == pytest.approx(float(divergence_NH.square().sum()), rel=1e-4)
    for name, found in (("contrastive", squares.contrastive), ("features", squares.features)):
        part_NH = gradient(0.5, **{name: blocks[name]}) - divergence_NH
        assert found == pytest.approx(float(part_NH.square().sum()), rel=1e-3)
    full_NH, free_NH = gradient(0.5, **blocks), gradient(None, **blocks)
    assert squares.clip_off == pytest.approx(float(free_NH.square().sum()), rel=1e-4)
    assert squares.clip_changed == pytest.approx(float((full_NH - free_NH).square().sum()), rel=1e-3)
