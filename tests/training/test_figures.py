"""The figures of a step, from values that are easy to average by head."""

from types import SimpleNamespace

import pytest
import torch

from unisd.config.objective import Agreement, Clip, Contrastive, Features
from unisd.config.resolve import Objective
from unisd.objective.reduction import Denominators, Masks
from unisd.objective.types import Loss, Squares
from unisd.rollouts.types import Completion
from unisd.training.figures import Figures

ALONE = SimpleNamespace(num_processes=1)
TOTAL = Denominators(rows=2.0, weight=2.0, negative_rows=1.0)
MASKS = Masks(
    mask_N=torch.tensor([1.0, 0.0, 1.0, 1.0]),
    row_N=torch.tensor([0, 0, 0, 1]),
    weight_N=torch.tensor([1.0, 9.0, 0.5, 0.5]),
    negative_R=torch.tensor([1.0, 0.0]),
)


def figures(**mechanisms: object) -> Figures:
    return Figures(ALONE, Objective.model_validate({"temperature": 1.0, **mechanisms}))


def loss(**values: list[float]) -> Loss:
    per_token = ("divergence_N", "entropy_N", "student_logp_N", "hinge_N", "distance_N")
    found = {name: torch.tensor(values.get(name, [0.0] * 4)) for name in per_token}
    return Loss(torch.zeros(()), **found, squares=Squares(9.0, 16.0, 0.0, 1.0, 4.0, 4.0, 1.0))


def test_only_tokens_that_count_are_averaged():
    found = figures().terms(
        [loss(entropy_N=[1.0, 50.0, 2.0, 6.0], divergence_N=[3.0, 50.0, 0.0, 0.0])], MASKS, TOTAL, None
    )
    assert found == {"entropy": 3.0, "divergence": 1.0}


def test_the_contrast_is_of_rows_that_have_a_negative():
    found = figures(contrastive=Contrastive()).terms([loss(hinge_N=[4.0, 50.0, 0.0, 50.0])], MASKS, TOTAL, None)
    assert (found["contrastive_loss"], found["contrastive_active_share"]) == (2.0, 0.5)
    assert found["contrastive_rows_share"] == 0.5


@pytest.mark.parametrize(("bound", "share"), [(None, 0.0), (2.0, 1 / 3), (0.0, 1.0)])
def test_a_divergence_at_its_bound_is_clipped(bound, share):
    found = figures(clip=Clip(quantile=0.5)).terms([loss(divergence_N=[2.0, 50.0, 1.0, 0.0])], MASKS, TOTAL, bound)
    assert found["clip_share"] == pytest.approx(share)
    assert found.get("clip_bound") == bound


def test_features_alone_have_no_divergence():
    found = figures(features=Features(alone=True)).terms([loss(distance_N=[1.0, 50.0, 1.0, 4.0])], MASKS, TOTAL, None)
    assert found == {"entropy": 0.0, "features_distance": 2.0}


def test_log_probabilities_are_compared_where_completions_were_sampled():
    completions = [Completion(0, (1, 2, 3), (-1.0, -1.0, -1.0), True), Completion(1, (4,), (-2.0,), True)]
    found = figures().difference(completions, [loss(student_logp_N=[-1.5, -9.0, -1.0, -1.0])], MASKS.mask_N)
    assert found == {"logp_difference": 0.5}
    assert figures().difference([Completion(0, (1,), (), True)], [], MASKS.mask_N) == {}


def test_shares_are_of_what_is_on():
    everything = figures(contrastive=Contrastive(), agreement=Agreement(), clip=Clip(value=1.0))
    assert everything.shares([loss()]) == {"share_contrastive": 4 / 7, "share_agreement": 0.5, "share_clip": 2.0}
    assert figures().shares([loss()]) == {}


def test_weights_are_those_of_tokens_that_count():
    found = figures(agreement=Agreement()).agreement(MASKS, torch.tensor([0.0, 2.0]), [True, False])
    assert found["agreement_disagreement"] == 1.0
    assert found["agreement_scored_share"] == 0.5
    assert (found["agreement_weight"], found["agreement_weight_min"]) == (pytest.approx(2 / 3), 0.5)
    assert figures().agreement(MASKS, None, []) == {}


def test_signs_are_of_all_completions():
    completions = [Completion(0, (1, 2), (), True), Completion(1, (1, 1, 1, 1, 1, 1), (), False)]
    leaked = frozenset({("end", "with", "one", "line", "that")})
    found = figures().signs(completions, ["End with one line that holds", "no"], leaked)
    assert (found["completion_tokens"], found["truncated_share"], found["leak_share"]) == (4.0, 0.5, 0.5)
    assert found["repetition"] == pytest.approx((0.0 + 2 / 3) / 2)
