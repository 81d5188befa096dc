"""The two implementations agree, and each term is what its equation says."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from unisd.config.resolve import Objective
from unisd.objective import fused, naive, terms
from unisd.objective.logits import DEFAULT_TILES, Tiles, realised_logp
from unisd.objective.reduction import Masks, coefficients, denominators
from unisd.objective.types import Coefficients, Head, Loss, Tokens

SMALL = Tiles(elements=16 * 16, vocabulary=30)
N, R, V, H = 37, 5, 101, 16


def make(dtype: torch.dtype = torch.float32, softcap: float | None = None, seed: int = 0) -> tuple[Tokens, Masks]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    student, head = normal(N, H).requires_grad_(), (normal(V, H) * 0.5).requires_grad_()
    tokens = Tokens(
        student_NH=student,
        student_head=Head(head, softcap),
        teacher_NH=normal(N, H),
        teacher_head=Head(normal(V, H) * 0.5, softcap),
        token_N=torch.randint(0, V, (N,), generator=generator),
        teacher_logp_N=-torch.rand(N, generator=generator) * 3,
        negative_logp_N=-torch.rand(N, generator=generator) * 3,
    )
    row_N = torch.sort(torch.randint(0, R, (N,), generator=generator)).values
    mask_N = (torch.rand(N, generator=generator) > 0.2).float()
    mask_N[row_N == 2] = 0.0
    weight_N = torch.rand(N, generator=generator)
    return tokens, Masks(mask_N, row_N, weight_N, torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0]))


def objective(**blocks: object) -> Objective:
    return Objective.model_validate({"temperature": 0.7, **blocks})


def gradients(loss: Loss, tokens: Tokens) -> list[torch.Tensor]:
    wanted = [tokens.student_NH, tokens.student_head.weight_VH]
    found = torch.autograd.grad(loss.value, wanted, allow_unused=True)
    return [torch.zeros_like(w) if g is None else g for w, g in zip(wanted, found, strict=True)]


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("clip", [None, 0.2])
@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("level", ["token", "sequence"])
def test_fused_equals_naive_in_value_gradient_and_figures(alpha, clip, softcap, level):
    for features, contrastive in itertools.product(
        [None, {"weight": 0.3}, {"weight": 0.3, "alone": True}], [None, {"weight": 0.2, "margin": 0.5}]
    ):
        tokens, masks = make(softcap=softcap)
        settings = objective(divergence={"alpha": alpha}, features=features, contrastive=contrastive)
        part = coefficients(masks, level, denominators(masks))
        expected = naive.self_distillation_loss(tokens, settings, part, clip)
        wanted = gradients(expected, tokens)
        for tiles in (DEFAULT_TILES, SMALL):
            found = fused.self_distillation_loss(tokens, settings, part, clip, tiles=tiles)
            torch.testing.assert_close(found.value, expected.value, atol=1e-5, rtol=1e-5)
            for ours, theirs in zip(gradients(found, tokens), wanted, strict=True):
                torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
            for name in ("divergence_N", "entropy_N", "student_logp_N", "hinge_N", "distance_N"):
                torch.testing.assert_close(getattr(found, name), getattr(expected, name), atol=2e-5, rtol=1e-4)
            assert found.squares.values() == pytest.approx(expected.squares.values(), abs=1e-5, rel=1e-3)


@pytest.mark.parametrize("implementation", [naive, fused])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_no_gradient_flows_into_the_teacher(implementation, alpha):
    """Not even where the teacher has the student's own output layer, or hidden states that carry gradients."""
    tokens, masks = make()
    settings = objective(divergence={"alpha": alpha}, features={"weight": 0.3}, contrastive={"weight": 0.2})
    part = coefficients(masks, "token", denominators(masks))
    apart = replace(tokens, teacher_head=Head(tokens.student_head.weight_VH.detach().clone()))
    wanted = gradients(implementation.self_distillation_loss(apart, settings, part), apart)
    teacher_NH = tokens.teacher_NH.clone().requires_grad_()
    shared = replace(tokens, teacher_NH=teacher_NH, teacher_head=tokens.student_head)
    found = implementation.self_distillation_loss(shared, settings, part)
    for ours, theirs in zip(gradients(found, shared), wanted, strict=True):
        torch.testing.assert_close(ours, theirs)
    (into_teacher,) = torch.autograd.grad(
        implementation.self_distillation_loss(shared, settings, part).value, [teacher_NH], allow_unused=True
    )
    assert into_teacher is None


def test_fused_equals_naive_to_the_rounding_of_bfloat16():
    exact, masks = make()
    rounded, _ = make(torch.bfloat16)
    settings = objective(divergence={"alpha": 0.5}, features={"weight": 0.3}, contrastive={})
    part = coefficients(masks, "token", denominators(masks))
    expected = naive.self_distillation_loss(exact, settings, part)
    found = fused.self_distillation_loss(rounded, settings, part)
    assert float(found.value.detach()) == pytest.approx(float(expected.value.detach()), rel=0.02)
    ours, theirs = gradients(found, rounded)[0].float(), gradients(expected, exact)[0]
    assert float((ours - theirs).norm() / theirs.norm()) < 0.03


def test_gradients_by_finite_differences():
    tokens, masks = make(torch.float64)
    settings = objective(divergence={"alpha": 0.4}, features={"weight": 0.3}, contrastive={"margin": 5.0})
    part = coefficients(masks, "token", denominators(masks))
    found = fused.self_distillation_loss(tokens, settings, part)
    gradient = gradients(found, tokens)[0]
    direction = torch.randn(N, H, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ends = []
    for step in (1e-6, -1e-6):
        moved = Tokens(**{**vars(tokens), "student_NH": (tokens.student_NH + step * direction).detach()})
        ends.append(float(fused.self_distillation_loss(moved, settings, part).value.detach()))
    assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(float((gradient * direction).sum()), rel=1e-5)


def test_no_tensor_of_all_tokens_and_the_whole_vocabulary_is_made():
    class Largest(TorchDispatchMode):
        seen = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for value in out if isinstance(out, tuple) else (out,):
                if isinstance(value, torch.Tensor):
                    Largest.seen = max(Largest.seen, value.numel())
            return out

    tokens, masks = make()
    settings = objective(divergence={"alpha": 0.5}, contrastive={})
    part = coefficients(masks, "token", denominators(masks))
    with Largest():
        fused.self_distillation_loss(tokens, settings, part, tiles=SMALL).value.backward()
    assert Largest.seen < N * V
    assert Largest.seen == V * H  # the gradient of the head itself


def logp(*probabilities: float) -> torch.Tensor:
    return torch.tensor([probabilities], dtype=torch.float64).log()


def test_divergence_by_hand():
    student, teacher = logp(0.5, 0.5), logp(0.25, 0.75)
    forward = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    reverse = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert float(terms.divergence(student, teacher, 0.0)) == pytest.approx(forward)
    assert float(terms.divergence(student, teacher, 1.0)) == pytest.approx(reverse)
    mixture = [0.8 * 0.5 + 0.2 * 0.25, 0.8 * 0.5 + 0.2 * 0.75]
    expected = 0.2 * sum(p * math.log(p / m) for p, m in zip([0.25, 0.75], mixture, strict=True))
    expected += 0.8 * sum(s * math.log(s / m) for s, m in zip([0.5, 0.5], mixture, strict=True))
    assert float(terms.divergence(student, teacher, 0.2)) == pytest.approx(expected)


def test_divergence_goes_over_into_its_ends():
    student, teacher = logp(0.5, 0.3, 0.2), logp(0.1, 0.6, 0.3)
    near = float(terms.divergence(student, teacher, 1e-6)) / 1e-6
    assert near == pytest.approx(float(terms.divergence(student, teacher, 0.0)), rel=1e-4)
    near = float(terms.divergence(student, teacher, 1 - 1e-6)) / 1e-6
    assert near == pytest.approx(float(terms.divergence(student, teacher, 1.0)), rel=1e-4)


def value(settings: Objective, clip: float | None = None, masks: Masks | None = None) -> float:
    tokens, default = make()
    masks = masks or default
    part = coefficients(masks, "token", denominators(masks))
    return float(fused.self_distillation_loss(tokens, settings, part, clip).value.detach())


def test_every_hyperparameter_moves_the_loss_the_right_way():
    plain = value(objective())
    assert value(objective(temperature=2.0)) < plain  # softer distributions lie closer
    assert value(objective(contrastive={"weight": 0.1})) > plain
    assert value(objective(contrastive={"weight": 0.2})) > value(objective(contrastive={"weight": 0.1}))
    assert value(objective(contrastive={"margin": 0.9})) > value(objective(contrastive={"margin": 0.1}))
    assert value(objective(contrastive={"weight": 1e-12})) == pytest.approx(plain)
    assert value(objective(features={"weight": 0.2})) > value(objective(features={"weight": 0.1})) > plain
    assert value(objective(features={"weight": 0.1, "alone": True})) < value(objective(features={"weight": 0.1}))
    assert value(objective(), clip=0.1) < value(objective(), clip=1.0) < plain
    assert value(objective(), clip=1e9) == pytest.approx(plain)
    assert value(objective(divergence={"alpha": 0.5})) != pytest.approx(plain)


def test_clipped_tokens_have_no_gradient():
    tokens, masks = make()
    part = coefficients(masks, "token", denominators(masks))
    bound = float(naive.self_distillation_loss(tokens, objective(), part).divergence_N.median())
    found = fused.self_distillation_loss(tokens, objective(), part, bound * 1.001)
    gradient = gradients(found, tokens)[0]
    clipped = found.divergence_N >= bound * 1.001
    assert clipped.any()
    assert not clipped.all()
    assert gradient[clipped].abs().max() == 0
    assert found.squares.clip_changed > 0


def test_a_step_with_nothing_left_is_a_differentiable_zero():
    tokens, masks = make()
    empty = Masks(torch.zeros(N), masks.row_N, masks.weight_N, masks.negative_R)
    part = coefficients(empty, "token", denominators(empty))
    found = fused.self_distillation_loss(tokens, objective(features={}, contrastive={}), part)
    assert float(found.value.detach()) == 0.0
    assert gradients(found, tokens)[0].abs().max() == 0


def test_no_tokens_at_all():
    tokens, _ = make()
    none = {name: v[:0] for name, v in vars(tokens).items() if isinstance(v, torch.Tensor)}
    nothing = torch.zeros(0)
    part = Coefficients(nothing, nothing, nothing, nothing)
    found = fused.self_distillation_loss(Tokens(**{**vars(tokens), **none}), objective(contrastive={}), part)
    assert float(found.value.detach()) == 0.0


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_parts_of_a_step_add_up_to_the_whole(level):
    tokens, masks = make()
    settings = objective(features={}, contrastive={}, divergence={"alpha": 0.3})
    total = denominators(masks)
    whole = fused.self_distillation_loss(tokens, settings, coefficients(masks, level, total))
    # Two "processes" of two micro-steps each, cut by rows.
    parts, sums = [], []
    for rows in ([0, 1], [2], [3], [4]):
        where = torch.isin(masks.row_N, torch.tensor(rows))
        local_N = torch.tensor([rows.index(int(row)) for row in masks.row_N[where]])
        piece = Masks(masks.mask_N[where], local_N, masks.weight_N[where], masks.negative_R[rows])
        cut = {name: v[where] for name, v in vars(tokens).items() if isinstance(v, torch.Tensor)}
        parts.append((Tokens(**{**vars(tokens), **cut}), piece, where))
        sums.append(denominators(piece))
    assert sum(part.rows for part in sums) == total.rows == 4
    assert sum(part.weight for part in sums) == pytest.approx(total.weight)
    together, gradient = 0.0, torch.zeros(N, H)
    for cut, piece, where in parts:
        found = fused.self_distillation_loss(cut, settings, coefficients(piece, level, total))
        together += float(found.value.detach())
        gradient[where] = torch.autograd.grad(found.value, tokens.student_NH)[0][where]
    assert together == pytest.approx(float(whole.value.detach()), rel=1e-5)
    torch.testing.assert_close(gradient, gradients(whole, tokens)[0], atol=1e-7, rtol=1e-4)


def test_reduction_by_hand():
    row_N = torch.tensor([0, 0, 0, 1, 2])
    mask_N = torch.tensor([1.0, 1.0, 0.0, 1.0, 0.0])
    weight_N = torch.tensor([0.5, 1.0, 9.0, 0.25, 9.0])
    masks = Masks(mask_N, row_N, weight_N, torch.tensor([0.0, 1.0, 1.0]))
    total = denominators(masks)
    assert (total.rows, total.weight, total.negative_rows) == (2.0, 0.75 + 0.25, 1.0)
    token = coefficients(masks, "token", total)
    expected = torch.tensor([0.5 / 1.5 / 2, 1.0 / 1.5 / 2, 0.0, 0.5, 0.0])
    torch.testing.assert_close(token.divergence_N, expected)
    torch.testing.assert_close(token.unweighted_N, torch.tensor([0.25, 0.25, 0.0, 0.5, 0.0]))
    torch.testing.assert_close(token.contrastive_N, torch.tensor([0.0, 0.0, 0.0, 1.0, 0.0]))
    sequence = coefficients(
        Masks(mask_N, row_N, torch.tensor([0.8, 0.8, 0.8, 0.2, 0.1]), masks.negative_R),
        "sequence",
        denominators(Masks(mask_N, row_N, torch.tensor([0.8, 0.8, 0.8, 0.2, 0.1]), masks.negative_R)),
    )
    torch.testing.assert_close(sequence.divergence_N, torch.tensor([0.4, 0.4, 0.0, 0.2, 0.0]))


def test_realised_log_probabilities():
    tokens, _ = make(softcap=3.0)
    expected = naive.logits(tokens.student_NH, tokens.student_head).log_softmax(-1).gather(1, tokens.token_N[:, None])
    for tiles in (DEFAULT_TILES, SMALL):
        found = realised_logp(tokens.student_NH, tokens.student_head, tokens.token_N, tiles)
        torch.testing.assert_close(found, expected[:, 0].detach(), atol=1e-5, rtol=1e-5)
