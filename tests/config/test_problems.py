"""Every bad manifest is told in the user's words."""

import pytest

from tests.config.manifests import manifest
from unisd.config.base import ConfigError
from unisd.config.load import parse_run


def told(data):
    with pytest.raises(ConfigError) as error:
        parse_run(data)
    return [str(problem) for problem in error.value.problems]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tusk": {}}, "spec.tusk: unknown field; did you mean task?"),
        ({"components": [{"name": "x", "preset": "unisd_stern"}]}, "spec.components[0].preset: should be"),
        ({"task": {"name": "cosy"}}, "spec.task.name: should be"),
        ({"seeds": [-1]}, "spec.seeds[0]: should be greater than or equal to 0 (got -1)"),
        ({"seeds": [1, 1]}, "spec.seeds: seeds must differ"),
        ({"model": {}}, "spec.model: give exactly one of name, path and claim"),
        ({"model": {"path": "x", "revision": "y"}}, "spec.model.revision: a revision belongs to a hub id"),
        ({"task": {"name": "custom"}}, "spec.task.source: task custom reads your own rows"),
        (
            {"task": {"name": "custom", "source": {"path": "x"}, "grading": "regex"}},
            "spec.task.pattern: grading regex needs",
        ),
        (
            {"task": {"name": "custom", "source": {"path": "x"}, "grading": "regex", "pattern": "("}},
            "spec.task.pattern: is no regular expression",
        ),
        (
            {"task": {"name": "custom", "source": {"path": "x"}, "grading": "regex", "pattern": "(a{99999999999999})"}},
            "spec.task.pattern: is no regular expression",
        ),
        (
            {"task": {"name": "custom", "source": {"path": "x"}, "grading": "regex", "pattern": "abc"}},
            "spec.task.pattern: has no group",
        ),
        ({"task": {"name": "cos_e", "grading": "exact"}}, "spec.task.grading: belongs to task custom"),
        ({"task": {"name": "cos_e", "subset": "full"}}, "spec.task.subset: belongs to task mbpp"),
        ({"task": {"name": "cos_e", "source": {}}}, "spec.task.source: give exactly one of hub, path and configMap"),
        ({"task": {"name": "gpqa"}}, "spec.task.name: is for evaluation only: train on another"),
        ({"training": {"learningRate": float("nan")}}, "spec.training.learningRate: should be a finite number"),
        ({"evaluation": {"checkpoint": "best"}}, "spec.evaluation.checkpoint: the best checkpoint is found by probes"),
        ({"successPolicy": {"type": "AtLeast"}}, "spec.successPolicy.count: belongs to type AtLeast"),
        ({"contexts": {"count": 1}}, "spec.contexts.count: agreement compares contexts and needs at least 2"),
        (
            {"evaluation": {"sources": [{"task": "gpqa", "path": "x"}]}},
            "spec.evaluation.sources[0].task: must be one of evaluation.tasks",
        ),
        (
            {"evaluation": {"tasks": ["cos_e"], "sources": [{"task": "cos_e", "path": "x"}]}},
            "spec.evaluation.sources[0].task: must be one of evaluation.tasks, and not the run's own task",
        ),
        (
            {"evaluation": {"tasks": ["gpqa"], "sources": [{"task": "gpqa", "path": "x", "hub": "a/b"}]}},
            "spec.evaluation.sources[0]: give exactly one of hub and path",
        ),
        (
            {
                "evaluation": {
                    "tasks": ["gpqa"],
                    "sources": [{"task": "gpqa", "path": "x"}, {"task": "gpqa", "path": "y"}],
                }
            },
            "spec.evaluation.sources[1].task: has a source already",
        ),
        (
            {"evaluation": {"divergence": True}, "rollout": {"engine": "vllm"}},
            "spec.evaluation.divergence: servers tell no distributions: set rollout.engine to transformers",
        ),
        ({"evaluation": {"passes": [1]}}, "spec.evaluation.passes: belongs to samples: set evaluation.samples"),
        (
            {"evaluation": {"samples": 2, "passes": [1, 5]}},
            "spec.evaluation.samples: pass@5 needs 5 completions or more of each row (got 2)",
        ),
        ({"training": "fast"}, "spec.training: should be a mapping of fields (got 'fast')"),
        ({"evaluation": {"tasks": []}}, "spec.evaluation.tasks: should have at least 1 item (got"),
        (
            {"training": {"lossTokensToSkip": 8, "maxCompletionTokens": 8}},
            "spec.training.lossTokensToSkip: leaves no token to learn from",
        ),
    ],
)
def test_bad_runs(change, message):
    assert any(line.startswith(message) for line in told(manifest(**change)))


@pytest.mark.parametrize(
    ("component", "message"),
    [
        ({"name": "Ä"}, "spec.components[0].name: should match pattern"),
        (
            {"name": "x", "preset": "ssd", "divergence": {}},
            "spec.components[0].divergence: has no effect on the baseline ssd",
        ),
        (
            {"name": "x", "preset": "ssd", "sampling": {"onPolicy": 0.5}},
            "spec.components[0].sampling.onPolicy: has no effect on the baseline ssd",
        ),
        (
            {"name": "x", "preset": "sft", "sampling": {"topK": 3}},
            "spec.components[0].sampling: has no effect on the baseline sft",
        ),
        (
            {"name": "x", "preset": "gkd", "agreement": {"gate": {}}},
            "spec.components[0].agreement.gate: goes by surprisal at sampling",
        ),
        ({"name": "x", "sampling": {"topP": 0}}, "spec.components[0].sampling.topP: should be greater than 0"),
        (
            {"name": "x", "agreement": {}, "contexts": {"count": 1}},
            "spec.components[0].contexts.count: agreement compares",
        ),
        ({"name": "x", "clip": {}}, "spec.components[0].clip: give exactly one of value and quantile"),
        ({"name": "x", "clip": {"value": 1, "quantile": 0.5}}, "spec.components[0].clip: give exactly one"),
        (
            {"name": "x", "divergence": {"alpha": 0.5}, "clip": {"value": 0.6932}},
            "spec.components[0].clip.value: never acts: the divergence with alpha 0.5 stays below 0.6931 nats",
        ),
        (
            {"name": "x", "agreement": {"level": "sequence", "scale": "quantile"}},
            "spec.components[0].agreement.scale: quantile belongs to level token",
        ),
        (
            {"name": "x", "preset": "match_repr", "agreement": {}},
            "spec.components[0].agreement: acts on the divergence, which features.alone leaves out",
        ),
        (
            {"name": "x", "training": {"lossTokensToSkip": 5000}},
            "spec.components[0].training.lossTokensToSkip: leaves no token",
        ),
        ({"name": "x", "preset": "sft", "ema": {}}, "spec.components[0].ema: has no effect on the baseline sft"),
        ({"name": "x", "agrement": {}}, "spec.components[0].agrement: unknown field; did you mean agreement?"),
    ],
)
def test_bad_components(component, message):
    assert any(line.startswith(message) for line in told(manifest(component)))


def test_several_problems_are_told_at_once():
    lines = told(manifest({"name": "x", "clip": {}}, {"name": "x", "preset": "raw", "ema": {}}, seeds=[1, 1]))
    assert len(lines) == 4
    assert any("is already the name of spec.components[0]" in line for line in lines)


def test_clip_below_the_bound_is_fine():
    parse_run(manifest({"name": "x", "divergence": {"alpha": 0.5}, "clip": {"value": 0.69}}))
