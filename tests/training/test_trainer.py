"""Training end to end on a tiny real model: guards, ranks, and what each mechanism does to the weights."""

import json

import pytest
import torch
from safetensors.torch import load_file

from unisd.failures import StageError
from unisd.files import read_json, read_jsonl
from unisd.stages import stages
from unisd.training.trainer import UniSDTrainer

pytestmark = pytest.mark.slow


PRESETS = ["agreement_tok_retrieval", "agreement_seq_random", "ema", "contrastive", "match_joint", "match_repr", "clip"]


@pytest.mark.parametrize("preset", [*PRESETS, "unisd_star"])
def test_every_preset_changes_the_trained_weights_and_says_by_how_much(trained, weights, preset):
    plain = weights(trained({"name": "plain", "divergence": {}}, rows=12), "plain-1")
    directory = trained({"name": "it", "preset": preset}, rows=12)
    found = weights(directory, "it-1")
    assert sum(float((found[name] - plain[name]).norm()) for name in plain) > 1e-3
    result = read_json(directory.train("it-1") / "result.json")
    expected = {"unisd_star": {"agreement", "contrastive", "ema", "features"}, "match_joint": {"features"}}
    expected |= {"match_repr": {"features"}}
    assert set(result["shares"]) == expected.get(preset, {preset.split("_")[0]})
    assert all(0.01 < share <= 1.0 for share in result["shares"].values()), result["shares"]
    assert not [warning for warning in result["warnings"] if "hardly acts" in warning]


def test_a_mechanism_that_hardly_acts_is_told(trained, caplog):
    directory = trained({"name": "it", "features": {"weight": 1e-9}})
    (warning,) = read_json(directory.train("it-1") / "result.json")["warnings"]
    assert "features is on and its share is 0.0000, under 0.01" in warning
    assert warning in caplog.text


def test_sequence_agreement_and_gate_and_quantile_scale(trained):
    component = {
        "name": "it",
        "agreement": {"level": "sequence", "gate": {"quantile": 0.5}},
        "contexts": {"source": "random"},
    }
    row = read_jsonl(trained(component).train("it-1") / "metrics.jsonl")[0]
    assert row["agreement_scored_share"] == 0.5
    assert row["agreement_weight"] < 1
    full = {"name": "it", "agreement": {"level": "sequence"}, "contexts": {"source": "random"}}
    more = read_jsonl(trained(full).train("it-1") / "metrics.jsonl")[0]
    assert row["tokens_scored"] < more["tokens_scored"]
    scaled = {"name": "it", "agreement": {"scale": "quantile", "gamma": 1.0}}
    assert read_jsonl(trained(scaled).train("it-1") / "metrics.jsonl")[0]["agreement_weight"] < 0.9


def test_the_first_tokens_can_be_left_out_of_the_loss(trained, weights, same):
    """The same completions at step 1; without their first tokens they teach something else."""
    component = {"name": "it", "divergence": {}}
    rows, kept = [], []
    for skip in (0, 4):
        directory = trained(component, rows=4, training={"lossTokensToSkip": skip})
        rows.append(read_jsonl(directory.train("it-1") / "metrics.jsonl")[0])
        kept.append(weights(directory, "it-1"))
    assert rows[0]["completion_tokens"] == rows[1]["completion_tokens"]
    assert rows[0]["rows"] == rows[1]["rows"] == 4
    assert not same(*kept)


def test_the_ema_teacher_follows_by_the_formula(trained):
    directory = trained({"name": "it", "ema": {"decay": 0.9}}, training={"checkpointEverySteps": 1})
    first, second = (directory.train("it-1") / f"checkpoint-{step}" for step in (1, 2))
    before, after = (load_file(c / "unisd_tensors.safetensors") for c in (first, second))
    student = load_file(second / "adapter_model.safetensors")
    for name, shadow in after.items():
        expected = 0.9 * before[name] + 0.1 * student[name.replace("base_model.model.base_model", "base_model")]
        torch.testing.assert_close(shadow, expected, atol=1e-7, rtol=1e-5)
    assert any((after[name] - before[name]).abs().max() > 0 for name in after)


def test_full_fine_tuning_with_ema_and_frozen_teacher(trained, tiny_model):
    full = {"fineTuning": "full", "learningRate": 1e-3}
    directory = trained({"name": "it", "ema": {"decay": 0.9}, "features": {}}, training=full)
    row = read_jsonl(directory.train("it-1") / "metrics.jsonl")[-1]
    assert 0 < row["share_ema"] < 1
    model = load_file(directory.train("it-1") / "adapter" / "model.safetensors")
    base = load_file(tiny_model / "model.safetensors")
    assert any(not torch.equal(model[name], base[name].to(model[name].dtype)) for name in base)
    frozen = trained({"name": "it", "divergence": {"alpha": 0.5}}, training=full)
    assert (frozen.train("it-1") / "adapter" / "config.json").is_file()


def test_a_frozen_teacher_of_a_whole_model_keeps_its_own_output_layer(trained, tiny_model, monkeypatch):
    from unisd.training import trainer

    loss, heads = trainer.self_distillation_loss, []

    def seen(tokens, *others):
        heads.append([head.weight_VH.detach().clone() for head in (tokens.student_head, tokens.teacher_head)])
        return loss(tokens, *others)

    monkeypatch.setattr(trainer, "self_distillation_loss", seen)
    trained({"name": "it", "divergence": {}}, training={"fineTuning": "full", "learningRate": 1e-3})
    (student, teacher), (moved, still) = heads[0], heads[-1]
    torch.testing.assert_close(student, teacher)
    assert not torch.equal(moved, student)
    assert torch.equal(still, teacher)


def test_the_result_loads_in_peft_and_in_transformers(trained, tiny_model):
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    adapter = trained({"name": "it", "preset": "sft"}).train("it-1") / "adapter"
    peft = AutoPeftModelForCausalLM.from_pretrained(adapter)
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    model.load_adapter(str(adapter))
    ids = AutoTokenizer.from_pretrained(adapter)("Question", return_tensors="pt")["input_ids"]
    torch.testing.assert_close(peft(ids).logits, model(ids).logits)
    assert not torch.equal(model(ids).logits, AutoModelForCausalLM.from_pretrained(tiny_model)(ids).logits)
    card = (adapter / "README.md").read_text(encoding="utf-8")
    assert "base_model: tiny" in card
    assert "learningRate: 0.01" in card


def poisoned(monkeypatch, steps, where):
    """Makes the loss, the gradients, or what the teacher says non-finite at some steps."""
    learn, score = UniSDTrainer.learn, UniSDTrainer._score

    def bad_learn(self, model, rows):
        result = learn(self, model, rows)
        if self.state.global_step + 1 in steps:
            if where == "loss":
                result.loss = float("nan")
            elif where == "gradient":
                next(p for p in model.parameters() if p.grad is not None).grad.fill_(float("nan"))
        return result

    def bad_score(self, step, scored_rows):
        found = score(self, step, scored_rows)
        if where == "teacher" and self.state.global_step + 1 in steps:
            found.hidden_NH.fill_(float("nan"))
        return found

    monkeypatch.setattr(UniSDTrainer, "learn", bad_learn)
    monkeypatch.setattr(UniSDTrainer, "_score", bad_score)


@pytest.mark.parametrize("where", ["loss", "gradient", "teacher"])
def test_a_non_finite_step_changes_nothing(trained, same, monkeypatch, where):
    poisoned(monkeypatch, {2}, where)
    component = {
        "name": "it",
        "ema": {"decay": 0.5},
        "divergence": {"alpha": 0.5},
        "clip": {"quantile": 0.9},
        "training": {"epochs": 2},
    }
    directory = trained(component, training={"checkpointEverySteps": 1, "keepCheckpoints": 9})
    one, two, three = (directory.train("it-1") / f"checkpoint-{step}" for step in (1, 2, 3))
    for name in ("adapter_model.safetensors", "unisd_tensors.safetensors"):
        assert same(load_file(one / name), load_file(two / name))
    assert not same(load_file(two / "adapter_model.safetensors"), load_file(three / "adapter_model.safetensors"))
    moments = [torch.load(c / "optimizer.pt", weights_only=True)["state"] for c in (one, two)]
    assert all(torch.equal(moments[0][k]["exp_avg"], moments[1][k]["exp_avg"]) for k in moments[0])
    schedules = [torch.load(c / "scheduler.pt", weights_only=True)["last_epoch"] for c in (one, two)]
    assert schedules[0] == schedules[1]
    bounds = [read_json(c / "unisd_state.json")["clip_bound"] for c in (one, two, three)]
    assert bounds[0] == bounds[1] != bounds[2]
    rows = read_jsonl(directory.train("it-1") / "metrics.jsonl")
    assert [row["non_finite_steps"] for row in rows] == [0, 1, 1, 1]


def test_non_finite_steps_in_a_row_stop_the_run(trained, monkeypatch):
    poisoned(monkeypatch, {1, 2, 3}, "gradient")
    with pytest.raises(StageError, match="3 steps in a row had a non-finite loss or gradient") as error:
        trained({"name": "it", "divergence": {}}, rows=16)
    assert error.value.reason == "NonFinite"


def test_non_finite_steps_between_others_do_not_add_up(trained, monkeypatch):
    poisoned(monkeypatch, {1, 2, 4}, "gradient")
    rows = read_jsonl(trained({"name": "it", "divergence": {}}, rows=16).train("it-1") / "metrics.jsonl")
    assert [row["non_finite_steps"] for row in rows] == [1, 2, 2, 3]


def test_a_collapsing_policy_is_stopped_with_a_sample(trained):
    guard = {"guard": {"action": "Stop", "window": 2, "maxTruncatedShare": 0.5}}
    with pytest.raises(StageError, match=r"truncated_share 1.000 is above 0.5 over 2 steps; a completion") as error:
        trained({"name": "it", "divergence": {}}, rows=12, training=guard)
    assert error.value.reason == "PolicyCollapsed"


def test_a_step_whose_rows_are_all_cut_is_skipped_and_counted(trained, weights):
    directory = trained(
        {"name": "it", "preset": "unisd_star"},
        training={"maskTruncated": True, "lossTokensToSkip": 7},
    )
    rows = read_jsonl(directory.train("it-1") / "metrics.jsonl")
    assert [row["skipped_steps"] for row in rows] == [1, 2]
    assert all(row["truncated_share"] > 0.5 for row in rows), "of all completions, those left out too"
    (warning, *_) = read_json(directory.train("it-1") / "result.json")["warnings"]
    assert warning.startswith("skipped_steps 2 of 2: they changed nothing")
    assert all(float(v.abs().max()) == 0 for k, v in weights(directory, "it-1").items() if "lora_B" in k)


def test_stage_hashes_cover_what_changes_results(make_run):
    run, _ = make_run()
    changed, _ = make_run(components=[{"name": "star", "preset": "unisd_star", "agreement": {"gamma": 0.5}}])
    before, after = ({s.name: s.hash for s in stages(r, {})} for r in (run, changed))
    assert before["prepare"] == after["prepare"]
    assert before["train/star-1"] != after["train/star-1"]
    assert before["evaluate/star-1"] != after["evaluate/star-1"]
    with_rows = {s.name: s.hash for s in stages(run, {"rows": "other"})}
    assert all(with_rows[name] != before[name] for name in before)


def test_metrics_are_all_named(trained):
    from unisd.metrics.names import STEP_METRICS

    everything = {"preset": "unisd_star", "clip": {"quantile": 0.9}, "sampling": {"onPolicy": 0.5}}
    directory = trained({"name": "it", **everything})
    rows = read_jsonl(directory.train("it-1") / "metrics.jsonl")
    of_servers = {"policy_lag", "seconds_push"}  # tests/training/test_rollouts.py
    assert {name for row in rows for name in row} - {"step"} == set(STEP_METRICS) - of_servers
    json.dumps(rows, allow_nan=False)
