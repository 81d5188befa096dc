"""The tiled loss is the oracle's: values, gradients and statistics; and it never holds full logits."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from unisd.config.objective import Contrastive, Features
from unisd.objective import fused, naive
from unisd.objective.logits import Tiles, realised_logp
from unisd.objective.reduction import coefficients, denominators
from unisd.objective.types import Head, Loss, Tokens

# 34 tokens and 53 words: tiles of 16 tokens and slices of 20 words divide neither.
SMALL = Tiles(elements=16 * 20, vocabulary=20)
FEATURES = {"none": None, "joint": Features(weight=0.2), "alone": Features(weight=0.2, alone=True)}
STATISTICS = ("divergence_N", "entropy_N", "student_logp_N", "hinge_N", "distance_N")


def _both(tokens: Tokens, fresh: Callable, *arguments: Any, tiles: Tiles | None = SMALL) -> list[tuple[Loss, Tokens]]:
    results = []
    for module, extra in ((naive, {}), (fused, {"tiles": tiles})):
        own = fresh(tokens)
        loss = module.self_distillation_loss(own, *arguments, **extra)
        (3.0 * loss.value).backward()
        results.append((loss, own))
    return results


def _same(results: list[tuple[Loss, Tokens]], tolerance: float) -> None:
    (expected, tokens), (found, own) = results
    torch.testing.assert_close(found.value, expected.value, atol=tolerance, rtol=tolerance)
    for name in STATISTICS:
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(own.student_NH.grad, tokens.student_NH.grad, atol=tolerance, rtol=tolerance)
    assert found.squares.values() == pytest.approx(expected.squares.values(), rel=1e-3, abs=1e-9)
    if tokens.student_head.weight_VH.requires_grad:
        expected_VH, found_VH = tokens.student_head.weight_VH.grad, own.student_head.weight_VH.grad
        if expected_VH is None:  # the oracle's graph has no output layer in it
            assert not found_VH.any()
        else:
            torch.testing.assert_close(found_VH, expected_VH, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("trained_head", [False, True])
@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("contrastive", [None, Contrastive(weight=0.3)])
@pytest.mark.parametrize("clips", [False, True])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_equals_the_oracle(
    build: Callable,
    objective_of: Callable,
    fresh: Callable,
    alpha: float,
    clips: bool,
    contrastive: Contrastive | None,
    features: str,
    trained_head: bool,
) -> None:
    case = build(trained_head=trained_head)
    objective = objective_of(alpha=alpha, contrastive=contrastive, features=FEATURES[features])
    bound = {0.0: 2.0, 1.0: 2.0}.get(alpha, 0.3) if clips else None
    results = _both(case.tokens, fresh, objective, case.coefficients, bound)
    if clips and features != "alone":
        clipped_N = results[0][0].divergence_N > bound
        assert clipped_N.any()
        assert not clipped_N.all()
    _same(results, 1e-5)


def test_a_token_at_the_clips_bound_has_no_gradient(build: Callable, objective_of: Callable, fresh: Callable) -> None:
    case, own = build(), fresh(build().tokens)
    free = fused.self_distillation_loss(case.tokens, objective_of(), case.coefficients)
    fused.self_distillation_loss(own, objective_of(), case.coefficients, float(free.divergence_N[0])).value.backward()
    assert case.coefficients.divergence_N[0] > 0
    assert not own.student_NH.grad[0].any()
    assert own.student_NH.grad.any()


@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("tiles", [SMALL, Tiles(elements=16 * 53), Tiles(vocabulary=7), None])
def test_equals_the_oracle_for_every_head_level_and_tiling(
    build: Callable,
    objective_of: Callable,
    fresh: Callable,
    tiles: Tiles | None,
    softcap: float | None,
    separate: bool,
    level: str,
) -> None:
    case = build(level=level, separate=separate, softcap=softcap, trained_head=True)
    objective = objective_of(alpha=0.4, contrastive=Contrastive(), features=Features())
    _same(_both(case.tokens, fresh, objective, case.coefficients, 0.3, tiles=tiles), 1e-5)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_equals_the_oracle_in_double_precision(
    build: Callable, objective_of: Callable, fresh: Callable, alpha: float
) -> None:
    case = build(dtype=torch.float64, trained_head=True)
    objective = objective_of(alpha=alpha, contrastive=Contrastive())
    _same(_both(case.tokens, fresh, objective, case.coefficients, None), 1e-12)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_bfloat16_stays_within_its_rounding(
    build: Callable, objective_of: Callable, fresh: Callable, alpha: float
) -> None:
    case = build(dtype=torch.bfloat16, trained_head=True)
    objective = objective_of(alpha=alpha, contrastive=Contrastive(), features=Features())
    (_, _), (found, own) = _both(case.tokens, fresh, objective, case.coefficients, None)
    exact = fresh(case.tokens)
    wide = replace(
        exact,
        student_NH=exact.student_NH.detach().float().requires_grad_(),
        teacher_NH=exact.teacher_NH.float(),
        student_head=Head(exact.student_head.weight_VH.detach().float().requires_grad_()),
        teacher_head=Head(exact.teacher_head.weight_VH.float()),
    )
    expected = naive.self_distillation_loss(wide, objective, case.coefficients)
    (3.0 * expected.value).backward()
    assert found.value.dtype == torch.float32
    assert own.student_NH.grad.dtype == own.student_head.weight_VH.grad.dtype == torch.bfloat16
    # Logits up to 16 in bfloat16 are off by up to 2⁻⁵; at τ = 0.7 that moves a log-probability by 0.05.
    torch.testing.assert_close(found.value, expected.value, rtol=0.01, atol=0.01)
    torch.testing.assert_close(found.student_logp_N, expected.student_logp_N, rtol=0.0, atol=0.07)
    for mine, theirs in (
        (own.student_NH.grad, wide.student_NH.grad),
        (own.student_head.weight_VH.grad, wide.student_head.weight_VH.grad),
    ):
        assert float((mine.float() - theirs).norm() / theirs.norm()) < 0.03


def test_an_empty_batch_and_an_all_masked_one_give_a_differentiable_zero(
    build: Callable, objective_of: Callable, fresh: Callable
) -> None:
    case = build(trained_head=True)
    objective = objective_of(contrastive=Contrastive(), features=Features())
    masks = replace(case.masks, mask_N=torch.zeros_like(case.masks.mask_N))
    none = coefficients(masks, "token", denominators(masks))
    for loss, own in _both(case.tokens, fresh, objective, none, 0.5):
        assert float(loss.value.detach()) == 0.0
        assert not own.student_NH.grad.any()
        assert not own.student_head.weight_VH.grad.any()
        assert set(loss.squares.values()) == {0.0}
    kept = {field.name: getattr(case.tokens, field.name) for field in fields(Tokens)}
    empty = {name: value[:0] for name, value in kept.items() if isinstance(value, torch.Tensor)}
    tokens = replace(case.tokens, **{name: value.detach() for name, value in empty.items()})
    part = type(none)(**{name: value[:0] for name, value in vars(none).items()})
    for loss, own in _both(tokens, fresh, objective, part, 0.5):
        assert float(loss.value.detach()) == 0.0
        assert own.student_NH.grad.shape == (0, 11)
        assert loss.entropy_N.shape == (0,)


def test_the_teacher_gets_no_gradient(build: Callable, objective_of: Callable, fresh: Callable) -> None:
    case = build(separate=True)
    teacher_NH = case.tokens.teacher_NH.clone().requires_grad_()
    weight_VH = case.tokens.teacher_head.weight_VH.clone().requires_grad_()
    own = replace(fresh(case.tokens), teacher_NH=teacher_NH, teacher_head=Head(weight_VH))
    fused.self_distillation_loss(own, objective_of(features=Features()), case.coefficients).value.backward()
    assert teacher_NH.grad is None
    assert weight_VH.grad is None
    assert own.student_NH.grad.any()


def test_large_logits_stay_finite(build: Callable, objective_of: Callable, fresh: Callable) -> None:
    case = build(separate=True)
    tokens = replace(case.tokens, student_NH=(case.tokens.student_NH * 60).detach())
    for alpha in (0.0, 0.5, 1.0):
        results = _both(tokens, fresh, objective_of(alpha=alpha), case.coefficients, None)
        assert all(own.student_NH.grad.isfinite().all() for _, own in results)
        torch.testing.assert_close(results[1][0].value, results[0][0].value, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(results[1][1].student_NH.grad, results[0][1].student_NH.grad, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("softcap", [None, 5.0])
def test_realised_log_probabilities_are_at_temperature_one(build: Callable, softcap: float | None) -> None:
    tokens = build(softcap=softcap).tokens
    full_NV = naive.logits(tokens.student_NH, tokens.student_head).log_softmax(dim=-1)
    expected_N = full_NV.gather(1, tokens.token_N[:, None])[:, 0].detach()
    found_N = realised_logp(tokens.student_NH, tokens.student_head, tokens.token_N, SMALL)
    torch.testing.assert_close(found_N, expected_N)
    assert not found_N.requires_grad
    assert realised_logp(tokens.student_NH[:0], tokens.student_head, tokens.token_N[:0]).shape == (0,)


class _Largest(TorchDispatchMode):
    """Remembers the most elements that any operation has returned."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, torch.Tensor):
                self.elements = max(self.elements, value.numel())
        return result


@pytest.mark.parametrize("trained_head", [False, True])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_nothing_of_tokens_times_vocabulary_is_ever_held(
    objective_of: Callable, alpha: float, trained_head: bool
) -> None:
    count, vocabulary, hidden = 100, 1000, 4
    draw = torch.Generator().manual_seed(3)
    weight_VH = torch.randn(vocabulary, hidden, generator=draw).requires_grad_(trained_head)
    tokens = Tokens(
        student_NH=torch.randn(count, hidden, generator=draw).requires_grad_(),
        student_head=Head(weight_VH, 20.0),
        teacher_NH=torch.randn(count, hidden, generator=draw),
        teacher_head=Head(weight_VH.detach(), 20.0),
        token_N=torch.randint(vocabulary, (count,), generator=draw),
        teacher_logp_N=torch.randn(count, generator=draw) - 3,
        negative_logp_N=torch.randn(count, generator=draw) - 3,
    )
    each_N = torch.full((count,), 1 / count)
    parts = fused.Coefficients(each_N, each_N, each_N, each_N)
    objective = objective_of(alpha=alpha, contrastive=Contrastive(), features=Features())
    tiles = Tiles(elements=16 * 250, vocabulary=250)
    with _Largest() as largest:
        fused.self_distillation_loss(tokens, objective, parts, 0.5, tiles=tiles).value.backward()
        realised_logp(tokens.student_NH, tokens.student_head, tokens.token_N, tiles)
    assert largest.elements <= vocabulary * hidden  # the output layer itself; full logits are 25 times as many
    with _Largest() as oracle:
        naive.self_distillation_loss(tokens, objective, parts, 0.5)
    assert oracle.elements == count * vocabulary
