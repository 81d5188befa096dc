"""Which runs a call stands for: the whole product, each under a name of its own, the same every time."""

from dataclasses import replace

import pytest

from unisd.config.base import ConfigError
from unisd.config.load import parse_run
from unisd.config.resolve import resolve
from unisd.experiments.modes import MODES
from unisd.experiments.plan import Experiment, manifests, task_name

BASE = Experiment("agreement", MODES["agreement"], ["cos_e"], models=["Qwen/Qwen2.5-0.5B-Instruct"])


def names(found):
    return [manifest["metadata"]["name"] for manifest in found]


def test_a_run_for_each_model_and_data_set_a_component_for_each_mode_and_value():
    wide = replace(BASE, models=["a/small", "b/large"], datasets=["cos_e", "mbpp"], seeds=[1, 2], baselines=["raw"])
    wide = replace(wide, grid={"gamma_agreement": [0.1, 1.0], "num_auxiliary_contexts": [3]})
    found = [parse_run(manifest) for manifest in manifests(wide)]
    assert [(run.spec.model.name, run.spec.task.name) for run in found] == [
        ("a/small", "cos_e"), ("a/small", "mbpp"), ("b/large", "cos_e"), ("b/large", "mbpp")
    ]  # fmt: skip
    for run in found:
        assert run.spec.components[0].preset == "raw"
        arms = [arm for arm in resolve(run.spec) if arm.trains]
        assert len(arms) == len(MODES["agreement"]) * 2 * 2
        assert {arm.objective.agreement.gamma for arm in arms} == {0.1, 1.0}


def test_baselines_train_by_the_same_settings():
    grid = {"learning_rate": [1e-4, 1e-5], "gamma_agreement": [0.1]}
    (found,) = manifests(replace(BASE, modes=["agreement_tok_random"], baselines=["raw", "sft"], grid=grid))
    told = [(arm.preset, arm.training.learning_rate) for arm in resolve(parse_run(found).spec)]
    own = [("agreement_tok_random", 1e-4), ("agreement_tok_random", 1e-5)]
    assert told == [("raw", 2e-5), ("sft", 1e-4), ("sft", 1e-5), *own]


def test_a_baseline_that_is_the_mode_itself_has_every_setting():
    (found,) = manifests(replace(BASE, modes=["sdft"], grid={"alpha": [0.5], "learning_rate": [1e-4]}))
    (component,) = found["spec"]["components"]
    assert component["divergence"] == {"alpha": 0.5}
    (found,) = manifests(replace(BASE, modes=["sft"], grid={"gamma_agreement": [0.1]}))
    with pytest.raises(ConfigError, match=r"spec.components\[0\].agreement: has no effect on the baseline sft"):
        parse_run(found)


def test_settings_of_a_whole_run_make_runs():
    found = manifests(
        replace(BASE, modes=["ema"], grid={"temperature": [0.7, 1.0], "max_completion_length": [64, 128]})
    )
    told = {(m["spec"]["rollout"]["temperature"], m["spec"]["training"]["maxCompletionTokens"]) for m in found}
    assert told == {(0.7, 64), (0.7, 128), (1.0, 64), (1.0, 128)}


def test_a_temperature_that_a_mode_would_not_sample_at_is_refused():
    found = replace(BASE, grid={"temperature": [0.5]}, baselines=["sdft"])
    assert manifests(found)
    with pytest.raises(ValueError, match=r"--temperature: ssd samples at its own, 1\.5: leave it out, or set sampling"):
        manifests(replace(found, modes=["ssd"]))


def test_names_never_collide_and_are_the_same_every_time():
    """The research code's names left out hyperparameters, limits and owners of models, so that jobs were skipped."""
    calls = [
        replace(BASE, models=["a/Model-Instruct", "b/Model-Instruct"]),
        replace(BASE, datasets=["cos_e", "cos_e-max20", "cos_e-max200"]),
        replace(BASE, grid={"learning_rate": [1e-5]}),
        replace(BASE, grid={"learning_rate": [1.00001e-5]}),
        replace(BASE, seeds=[2]),
        replace(BASE, grid={"agreement_stat": ["range"]}),
        replace(BASE, engine="vllm"),
        replace(BASE, datasets=["mbpp", "mbpp-full"]),
        replace(BASE, grid={"temperature": [0.7, 0.70001]}),
    ]
    found = [name for call in calls for name in names(manifests(call))]
    assert len(set(found)) == len(found) == 14
    assert [name for call in calls for name in names(manifests(call))] == found
    assert all(len(name) <= 40 for name in found)
    many = replace(BASE, grid={"gamma_agreement": [0.1, 0.10001, 0.1000100001], "num_demos": [1, 11]})
    components = [component["name"] for component in manifests(many)[0]["spec"]["components"]]
    assert len(set(components)) == len(components) == 32


def test_how_many_at_once_is_no_part_of_a_name():
    (one,), (two,) = manifests(BASE), manifests(replace(BASE, parallelism=2))
    assert one["metadata"] == two["metadata"]
    assert two["spec"] == {**one["spec"], "parallelism": 2}


def test_more_components_than_a_run_may_have_make_several_runs():
    many = replace(BASE, grid={"gamma_agreement": [float(n) for n in range(1, 12)]}, baselines=["raw"], seeds=[1, 2, 3])
    found = [parse_run(manifest) for manifest in manifests(many)]
    assert [run.spec.components[0].preset for run in found] == ["raw"] * len(found)
    arms = [arm for run in found for arm in resolve(run.spec) if arm.trains]
    assert len({(arm.preset, arm.objective.agreement.gamma, arm.seed) for arm in arms}) == len(arms) == 66 * 3


def test_data_sets_by_the_research_codes_names():
    assert [task_name(name) for name in ("tooluse", "scienceqa-all", "mbpp-full-max10", "cos_e-max5")] == [
        "toolalpaca", "scienceqa", "mbpp", "cos_e"
    ]  # fmt: skip
    (full,) = manifests(replace(BASE, datasets=["mbpp-full-max10"]))
    assert full["spec"]["task"] == {"name": "mbpp", "subset": "full", "maxTrainExamples": 10}
    with pytest.raises(ValueError, match="no data set 'squad'; known: scienceqa"):
        manifests(replace(BASE, datasets=["squad"]))


def test_cross_evaluation_and_local_rows():
    own = replace(BASE, datasets=["scienceqa"], sources={"gpqa": "/rows", "scienceqa": "/own"}, cross_evaluate=True)
    (found,) = manifests(own)
    assert found["spec"]["task"]["source"] == {"path": "/own"}
    assert found["spec"]["evaluation"] == {
        "tasks": ["scienceqa", "gpqa"], "sources": [{"task": "gpqa", "path": "/rows"}]
    }  # fmt: skip


def test_models_by_path_or_hub_id(tmp_path):
    found = manifests(replace(BASE, models=[str(tmp_path), "Qwen/Qwen2.5-0.5B-Instruct", "model.gguf"]))
    assert [set(manifest["spec"]["model"]) for manifest in found] == [{"path"}, {"name"}, {"path"}]
    (pinned,) = manifests(replace(BASE, models=["a/b@v1"]))
    assert pinned["spec"]["model"] == {"name": "a/b", "revision": "v1"}


def test_rows_that_no_run_reads_are_told():
    with pytest.raises(ValueError, match="--source: rows of mbpp are read by no run; tasks are cos_e"):
        manifests(replace(BASE, sources={"mbpp": "/rows"}))
