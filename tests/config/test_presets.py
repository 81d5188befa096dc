"""Presets resolve, overrides merge field by field, and every bad manifest is told in the user's words."""

import copy
import json
from pathlib import Path
from typing import get_args

import pytest
import yaml

from unisd.config.base import ConfigError
from unisd.config.load import load_cluster_run, load_run, parse_cluster_run, parse_run, plain
from unisd.config.presets import PRESETS, Method
from unisd.config.resolve import evaluated_tasks, resolve

EXAMPLES = Path(__file__).parents[2] / "examples"


def manifest(*components, **spec):
    return {
        "apiVersion": "unisd.dev/v1alpha1",
        "kind": "SelfDistillRun",
        "metadata": {"name": "test"},
        "spec": {
            "model": {"name": "a/b"},
            "task": {"name": "cos_e"},
            "rollout": {"engine": "transformers"},
            "components": list(components) or [{"name": "star", "preset": "unisd_star"}],
            **spec,
        },
    }


def told(data):
    with pytest.raises(ConfigError) as error:
        parse_run(data)
    return [str(problem) for problem in error.value.problems]


@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_available_preset_resolves_to_what_its_table_says(preset):
    (arm,) = resolve(parse_run(manifest({"name": "it", "preset": preset})).spec)
    assert arm.method == (preset if preset in get_args(Method) else "unisd")
    for block, values in PRESETS[preset].items():
        found = getattr(arm, block, None) or getattr(arm.objective, block)
        dumped = found.model_dump(by_alias=True)
        assert {name: dumped[name] for name in values} == values


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
        ({"evaluation": {"tasks": []}}, "spec.evaluation.tasks: List should have at least 1 item"),
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
        ({"name": "Ä"}, "spec.components[0].name: String should match pattern"),
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


@pytest.mark.parametrize("text", ["a: [", "- 1", "a: 1\n---\nb: 2", ""])
def test_files_that_are_no_manifest(tmp_path, text):
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=str(path)):
        load_run(path)


def test_a_key_that_stands_twice_is_told_with_its_line(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(manifest()) + "metadata: {name: again}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"metadata stands here twice\n.* line \d+"):
        load_run(path)


def test_paths_are_relative_to_the_manifest(tmp_path):
    other = {"tasks": ["cos_e", "gpqa"], "sources": [{"task": "gpqa", "path": "questions"}]}
    data = manifest(
        model={"path": "model"}, task={"name": "cos_e", "source": {"path": "rows"}, "seed": 4}, evaluation=other
    )
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    run = load_run(tmp_path / "run.yaml")
    assert run.spec.model.path == str(tmp_path / "model")
    assert run.spec.task.source.path == str(tmp_path / "rows")
    own, gpqa = evaluated_tasks(run.spec)
    assert own == run.spec.task
    assert (gpqa.name, gpqa.source.path, gpqa.seed) == ("gpqa", str(tmp_path / "questions"), 4)


@pytest.mark.parametrize(
    ("model", "there"),
    [("models/encoder", True), ("org/encoder", False), ("x" * 4096, False)],
    ids=["directory", "hub id", "too long for a name"],
)
def test_an_embedding_model_is_a_directory_beside_the_manifest_or_a_hub_id(model, there, tmp_path):
    (tmp_path / "models/encoder").mkdir(parents=True)
    data = manifest(contexts={"embeddingModel": model})
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    found = load_run(tmp_path / "run.yaml").spec.contexts.embedding_model
    assert found == (str(tmp_path / model) if there else model)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_is_valid_and_round_trips(path):
    on_a_cluster = "configMap" in path.read_text()
    run = load_cluster_run(path) if on_a_cluster else load_run(path)
    again = (parse_cluster_run if on_a_cluster else parse_run)(json.loads(json.dumps(plain(run))))
    assert again == run
    assert resolve(again.spec) == resolve(run.spec)
    assert copy.deepcopy(run) == run
