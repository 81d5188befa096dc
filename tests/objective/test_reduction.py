"""What divides by what: hand-computed losses, and the same loss however a step is cut."""

from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from operator import add

import pytest
import torch

from unisd.config.objective import Contrastive, Features
from unisd.objective.fused import self_distillation_loss
from unisd.objective.reduction import Denominators, Masks, coefficients, denominators
from unisd.objective.types import Coefficients, Tokens

# Row 0 has two tokens, row 1 one token and one masked, row 2 only masked ones, row 3 none at all.
MASK_N = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0])
ROW_N = torch.tensor([0, 0, 1, 1, 2])
D_N = torch.tensor([2.0, 4.0, 10.0, 1e6, 1e6])


def masks_of(weight_N: list[float], negative_R: list[float] | None = None) -> Masks:
    negatives = torch.tensor(negative_R or [0.0] * 4)
    return Masks(mask_N=MASK_N, row_N=ROW_N, weight_N=torch.tensor(weight_N), negative_R=negatives)


def own(masks: Masks, level: str) -> Coefficients:
    return coefficients(masks, level, denominators(masks))


def test_without_weights_every_row_counts_alike() -> None:
    parts = own(masks_of([1.0] * 5), "token")
    expected = torch.tensor([0.25, 0.25, 0.5, 0.0, 0.0])
    for coefficient_N in (parts.divergence_N, parts.unweighted_N, parts.features_N):
        torch.testing.assert_close(coefficient_N, expected)
    assert float((parts.divergence_N * D_N).sum()) == pytest.approx(((2 + 4) / 2 + 10) / 2)


def test_token_weights_are_normalised_within_their_row() -> None:
    parts = own(masks_of([0.75, 0.25, 0.1, 1.0, 1.0]), "token")
    # Row 0: (0.75·2 + 0.25·4) / 1 = 2.5; row 1: 0.1·10 / 0.1 = 10, however small its weight.
    assert float((parts.divergence_N * D_N).sum()) == pytest.approx((2.5 + 10) / 2)
    assert float((parts.unweighted_N * D_N).sum()) == pytest.approx((3 + 10) / 2)


def test_sequence_weights_are_normalised_over_the_rows() -> None:
    parts = own(masks_of([0.9, 0.9, 0.3, 0.3, 0.7]), "sequence")
    assert float((parts.divergence_N * D_N).sum()) == pytest.approx((0.9 * 3 + 0.3 * 10) / 1.2)


def test_a_common_factor_of_sequence_weights_cancels_however_small() -> None:
    small = own(masks_of([0.9e-36, 0.9e-36, 0.3e-36, 0.3e-36, 0.7e-36]), "sequence")
    large = own(masks_of([0.9, 0.9, 0.3, 0.3, 0.7]), "sequence")
    torch.testing.assert_close(small.divergence_N, large.divergence_N)


def test_the_contrastive_term_is_a_mean_over_rows_that_have_a_negative() -> None:
    parts = own(masks_of([1.0] * 5, [0.0, 1.0, 1.0, 1.0]), "token")
    torch.testing.assert_close(parts.contrastive_N, torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0]))
    parts = own(masks_of([1.0] * 5, [1.0, 1.0, 1.0, 1.0]), "token")
    torch.testing.assert_close(parts.contrastive_N, torch.tensor([0.25, 0.25, 0.5, 0.0, 0.0]))


def test_agreement_weights_leave_the_other_terms_alone() -> None:
    plain, weighted = (
        own(masks_of([1.0] * 5, [1.0] * 4), "token"),
        own(masks_of([0.2, 0.9, 0.5, 1, 1], [1.0] * 4), "token"),
    )
    torch.testing.assert_close(plain.contrastive_N, weighted.contrastive_N)
    torch.testing.assert_close(plain.features_N, weighted.features_N)


def test_rows_without_a_token_are_in_no_denominator() -> None:
    total = denominators(masks_of([0.5, 0.5, 0.25, 0.25, 1.0], [1.0, 0.0, 1.0, 1.0]))
    assert total == Denominators(rows=2.0, weight=0.75, negative_rows=1.0)


def test_a_step_without_any_token_has_zero_coefficients() -> None:
    masks = replace(masks_of([1.0] * 5, [1.0] * 4), mask_N=torch.zeros(5))
    for level in ("token", "sequence"):
        for coefficient_N in vars(own(masks, level)).values():
            torch.testing.assert_close(coefficient_N, torch.zeros(5))


def _rows(masks: Masks, rows: list[int]) -> tuple[torch.Tensor, Masks]:
    """The tokens of some rows, and their masks with rows numbered from 0."""
    where_N = torch.isin(masks.row_N, torch.tensor(rows))
    number_R = torch.zeros(masks.rows, dtype=torch.long)
    number_R[torch.tensor(rows)] = torch.arange(len(rows))
    return where_N, Masks(
        mask_N=masks.mask_N[where_N],
        row_N=number_R[masks.row_N[where_N]],
        weight_N=masks.weight_N[where_N],
        negative_R=masks.negative_R[torch.tensor(rows)],
    )


def _tokens(tokens: Tokens, where_N: torch.Tensor) -> Tokens:
    count = len(where_N)
    cut = {
        name: value[where_N]
        for name, value in vars(tokens).items()
        if isinstance(value, torch.Tensor) and len(value) == count
    }
    return replace(tokens, **cut)


@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize(
    "split",
    [[[0], [1], [2], [3], [4], [5]], [[0, 1], [2, 5], [3, 4]], [[5, 3, 1], [0], [4, 2]], [[2], [0, 1, 3, 4, 5]]],
)
def test_any_cut_into_micro_steps_and_processes_gives_the_same_loss(
    build: Callable, objective_of: Callable, fresh: Callable, level: str, split: list[list[int]]
) -> None:
    case = build(level=level, trained_head=True)
    objective = objective_of(contrastive=Contrastive(weight=0.3), features=Features(weight=0.2))
    whole = fresh(case.tokens)
    expected = self_distillation_loss(whole, objective, case.coefficients, clip_bound=1.0)
    expected.value.backward()
    parts = [_rows(case.masks, rows) for rows in split]
    total = reduce(add, (denominators(masks) for _, masks in parts))
    assert total.rows == pytest.approx(denominators(case.masks).rows)
    cut = fresh(case.tokens)
    losses = [
        self_distillation_loss(_tokens(cut, where_N), objective, coefficients(masks, level, total), clip_bound=1.0)
        for where_N, masks in parts
    ]
    sum(loss.value for loss in losses).backward()
    torch.testing.assert_close(sum(loss.value for loss in losses), expected.value)
    torch.testing.assert_close(cut.student_NH.grad, whole.student_NH.grad, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(cut.student_head.weight_VH.grad, whole.student_head.weight_VH.grad, atol=1e-6, rtol=1e-5)
    squares = reduce(add, (loss.squares for loss in losses))
    assert squares.values() == pytest.approx(expected.squares.values(), rel=1e-4)
