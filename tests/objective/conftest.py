"""Small random cases of the objective. Legend: N tokens, R rows, V vocabulary, H hidden, K contexts."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch

from unisd.config.objective import AgreementLevel, Clip, Contrastive, Divergence, Features
from unisd.config.resolve import Objective
from unisd.objective.reduction import Masks, coefficients, denominators
from unisd.objective.types import Coefficients, Head, Tokens

# A row without tokens, one whose tokens are all masked, and lengths that divide no tile.
LENGTHS = (9, 7, 0, 14, 1, 3)
MASKED_ROW = 5
VOCABULARY, HIDDEN = 53, 11


@dataclass(frozen=True)
class Case:
    """Inputs of the loss."""

    tokens: Tokens
    masks: Masks
    coefficients: Coefficients


def _masks(draw: torch.Generator, lengths: tuple[int, ...], dtype: torch.dtype, level: AgreementLevel) -> Masks:
    row_N = torch.tensor([row for row, length in enumerate(lengths) for _ in range(length)])
    mask_N = (torch.rand(len(row_N), generator=draw) < 0.8).to(dtype)
    mask_N[row_N != MASKED_ROW] = mask_N[row_N != MASKED_ROW].index_fill(0, torch.tensor([0, 9, 16, 30]), 1.0)
    mask_N[row_N == MASKED_ROW] = 0.0
    per_row_R = torch.rand(len(lengths), generator=draw, dtype=dtype)
    per_token_N = torch.rand(len(row_N), generator=draw, dtype=dtype)
    weight_N = per_row_R[row_N] if level == "sequence" else per_token_N
    negative_R = torch.tensor([1, 0, 1, 1, 1, 1], dtype=dtype)
    return Masks(mask_N=mask_N, row_N=row_N, weight_N=weight_N * 0.9 + 0.1, negative_R=negative_R)


def build(
    *,
    dtype: torch.dtype = torch.float32,
    separate: bool = False,
    trained_head: bool = False,
    softcap: float | None = None,
    level: AgreementLevel = "token",
) -> Case:
    """A case with its own seed; `separate` gives teacher and student output layers of their own."""
    draw = torch.Generator().manual_seed(7)
    wide = torch.float32 if dtype == torch.bfloat16 else dtype
    masks = _masks(draw, LENGTHS, wide, level)
    count = len(masks.row_N)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    student_NH = normal(count, HIDDEN)
    teacher_NH = student_NH + 0.5 * normal(count, HIDDEN)
    weight_VH, other_VH = normal(VOCABULARY, HIDDEN), normal(VOCABULARY, HIDDEN)
    head_VH = weight_VH.to(dtype).requires_grad_(trained_head)
    tokens = Tokens(
        student_NH=student_NH.to(dtype).requires_grad_(),
        student_head=Head(head_VH, softcap),
        teacher_NH=teacher_NH.to(dtype),
        teacher_head=Head(other_VH.to(dtype) if separate else head_VH.detach(), softcap),
        token_N=torch.randint(VOCABULARY, (count,), generator=draw),
        teacher_logp_N=-3.0 * normal(count).abs().to(wide),
        negative_logp_N=-3.0 * normal(count).abs().to(wide),
    )
    return Case(tokens, masks, coefficients(masks, level, denominators(masks)))


def objective_of(
    *,
    temperature: float = 0.7,
    alpha: float = 0.0,
    contrastive: Contrastive | None = None,
    features: Features | None = None,
    clip: Clip | None = None,
) -> Objective:
    """The mechanisms under test."""
    return Objective(
        temperature=temperature,
        divergence=Divergence(alpha=alpha),
        contrastive=contrastive,
        features=features,
        clip=clip,
    )


def fresh(tokens: Tokens) -> Tokens:
    """The same inputs with leaves of their own, so that gradients do not mix."""
    head = tokens.student_head
    weight_VH = head.weight_VH.detach().clone().requires_grad_(head.weight_VH.requires_grad)
    return replace(
        tokens,
        student_NH=tokens.student_NH.detach().clone().requires_grad_(),
        student_head=replace(head, weight_VH=weight_VH),
    )


@pytest.fixture(name="build")
def build_fixture() -> Callable[..., Case]:
    return build


@pytest.fixture(name="objective_of")
def objective_of_fixture() -> Callable[..., Objective]:
    return objective_of


@pytest.fixture(name="fresh")
def fresh_fixture() -> Callable[[Tokens], Tokens]:
    return fresh
