"""Presets resolve, and overrides merge field by field."""

from operator import attrgetter
from typing import get_args

import pytest

from tests.config.manifests import manifest
from unisd.config.load import parse_run
from unisd.config.presets import PRESETS, Method
from unisd.config.resolve import resolve


@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_available_preset_resolves_to_what_its_table_says(preset):
    (arm,) = resolve(parse_run(manifest({"name": "it", "preset": preset})).spec)
    assert arm.method == (preset if preset in get_args(Method) else "unisd")
    for block, values in PRESETS[preset].items():
        found = getattr(arm, block, None) or getattr(arm.objective, block)
        dumped = found.model_dump(by_alias=True)
        assert {name: dumped[name] for name in values} == values


# Written out, for the table may not vouch for itself: UniSD's values, and those of docs/baselines.md.
PUBLISHED = {
    "agreement_tok_induction": {
        "objective.agreement.level": "token", "objective.agreement.gamma": 1.0, "contexts.source": "induction",
    },
    "agreement_seq_random": {
        "objective.agreement.level": "sequence", "objective.agreement.gamma": 10.0, "contexts.source": "random",
    },
    "agreement_seq_retrieval": {"objective.agreement.statistic": "variance", "contexts.source": "retrieval"},
    "ema": {"objective.ema.decay": 0.98, "objective.ema.every_steps": 1},
    "contrastive": {"objective.contrastive.weight": 0.1, "objective.contrastive.margin": 0.5},
    "match_joint": {"objective.features.weight": 0.1, "objective.features.alone": False},
    "match_repr": {"objective.features.weight": 1.0, "objective.features.alone": True},
    "clip": {"objective.divergence.alpha": 0.5, "objective.clip.quantile": 0.95, "objective.temperature": 0.7},
    "unisd_star": {
        "objective.ema.decay": 0.98, "objective.features.weight": 0.1, "objective.features.alone": False,
        "objective.contrastive.weight": 0.1, "objective.contrastive.margin": 0.5, "objective.agreement.level": "token",
        "objective.agreement.gamma": 1.0, "contexts.source": "retrieval", "contexts.count": 3,
        "objective.divergence.alpha": 0.0, "objective.temperature": 0.7, "objective.clip": None,
    },
    "sft": {
        "training.learning_rate": 2e-5, "training.epochs": 1, "training.per_device_batch_size": 4,
        "training.gradient_accumulation_steps": 4, "training.warmup_ratio": 0.1, "training.schedule": "cosine",
        "training.mask_truncated": True, "contexts.layout": "marker", "contexts.demonstrations_per_context": 1,
    },
    "sdft": {
        "objective.divergence.alpha": 1.0, "objective.temperature": 1.0, "sampling.temperature": 1.0,
        "objective.ema.decay": 0.99, "training.loss_tokens_to_skip": 3,
    },
    "gkd": {
        "objective.divergence.alpha": 0.5, "objective.temperature": 1.0, "sampling.temperature": 1.0,
        "sampling.on_policy": 0.5, "objective.ema": None,
    },
    "opsd": {
        "objective.divergence.alpha": 0.5, "objective.temperature": 1.0, "sampling.temperature": 1.1,
        "sampling.top_p": 0.95, "sampling.top_k": 20,
    },
    "ssd": {"sampling.temperature": 1.5, "sampling.top_p": 0.8, "sampling.top_k": 20},
}  # fmt: skip


@pytest.mark.parametrize("preset", PUBLISHED)
def test_presets_have_the_published_values(preset):
    (arm,) = resolve(parse_run(manifest({"name": "it", "preset": preset})).spec)
    assert {field: attrgetter(field)(arm) for field in PUBLISHED[preset]} == PUBLISHED[preset]


def test_overrides_change_single_fields_of_a_preset():
    component = {
        "name": "it",
        "preset": "unisd_star",
        "agreement": {"gamma": 0.3},
        "contexts": {"count": 5},
        "training": {"learningRate": 1e-3},
    }
    (arm,) = resolve(parse_run(manifest(component, contexts={"layout": "turns"}, training={"epochs": 3})).spec)
    assert (arm.objective.agreement.gamma, arm.objective.agreement.level) == (0.3, "token")
    assert (arm.contexts.count, arm.contexts.source, arm.contexts.layout) == (5, "retrieval", "turns")
    assert (arm.training.learning_rate, arm.training.epochs) == (1e-3, 3)
    assert arm.objective.ema.decay == 0.98


@pytest.mark.parametrize(
    ("preset", "own", "gamma"),
    [
        ("agreement_tok_random", {}, 1.0),
        ("agreement_seq_random", {}, 10.0),
        ("agreement_seq_random", {"statistic": "range"}, 0.5),
        ("unisd_star", {"statistic": "range"}, 0.15),
        ("unisd_star", {"level": "sequence"}, 10.0),
        ("unisd_star", {"statistic": "range", "scale": "quantile"}, 1.0),
        ("unisd_star", {"statistic": "range", "gamma": 2.0}, 2.0),
    ],
)
def test_gamma_is_the_default_of_the_level_and_statistic_that_a_component_has(preset, own, gamma):
    (arm,) = resolve(parse_run(manifest({"name": "it", "preset": preset, "agreement": own})).spec)
    assert arm.objective.agreement.gamma == gamma


def test_sampling_and_divergence_have_temperatures_of_their_own():
    sdft = {"name": "sdft", "preset": "sdft", "training": {"lossTokensToSkip": 1}}
    gkd = {"name": "gkd", "preset": "gkd", "sampling": {"onPolicy": 0.25}}
    run = parse_run(
        manifest({"name": "plain", "divergence": {}}, sdft, gkd, rollout={"engine": "transformers", "temperature": 0.6})
    )
    plain_arm, sdft_arm, gkd_arm = resolve(run.spec)
    assert (plain_arm.sampling.temperature, plain_arm.objective.temperature) == (0.6, 0.6)
    assert (sdft_arm.sampling.temperature, sdft_arm.objective.temperature) == (1.0, 1.0)
    assert sdft_arm.training.loss_tokens_to_skip == 1
    assert (gkd_arm.sampling.temperature, gkd_arm.sampling.on_policy) == (1.0, 0.25)


def test_a_clip_value_replaces_a_presets_quantile():
    (arm,) = resolve(parse_run(manifest({"name": "it", "preset": "clip", "clip": {"value": 0.3}})).spec)
    assert (arm.objective.clip.value, arm.objective.clip.quantile) == (0.3, None)


def test_arms_are_components_by_seeds():
    run = parse_run(manifest({"name": "a", "preset": "raw"}, {"name": "b", "preset": "sft"}, seeds=[3, 5]))
    assert [arm.name for arm in resolve(run.spec)] == ["a-3", "a-5", "b-3", "b-5"]
