"""Training end to end on a tiny real model: resume, stopping, guards, and what each mechanism does to the weights."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from unisd import train as training
from unisd.config.load import plain
from unisd.config.resolve import resolve
from unisd.failures import StageError
from unisd.job import Job
from unisd.rundir import RunDir, read_json, read_jsonl, write_json
from unisd.stages import stages
from unisd.training.checkpoint import checkpoints
from unisd.training.trainer import UniSDTrainer

pytestmark = pytest.mark.slow

EMA = {"name": "ema", "preset": "ema", "training": {"epochs": 2}}


def weights(directory: RunDir, arm: str) -> dict[str, torch.Tensor]:
    return load_file(directory.train(arm) / "adapter" / "adapter_model.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


SCRIPT = """
import os, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from unisd.config.load import parse_run
from unisd.config.resolve import resolve
from unisd.job import Job
from unisd.rundir import RunDir, read_json
from unisd import train as training
from unisd.training import loop

root, kill_at = Path(sys.argv[1]), int(sys.argv[2])
finish = loop.StepLoop.finish_step
def finish_and_die(self, control):
    finish(self, control)
    if self.state.global_step == kill_at:
        print("AT", flush=True)
        os.kill(os.getpid(), 9)
if kill_at > 0:
    loop.StepLoop.finish_step = finish_and_die
run = parse_run(read_json(root / "run.json"))
training.train(Job(run, RunDir(root), resolve(run.spec)[0]))
"""


def in_a_process(directory: RunDir, kill_at: int = 0) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, str(directory.root), str(kill_at)],
        capture_output=True,
        check=False,
    )


def test_killed_and_resumed_ends_in_the_same_bits(make_run, carry_out, tmp_path):
    """7 rows, 4 a step: steps 1–2 are the first epoch, 3–4 the second; killed in it, on its end and in the next."""
    run, directory = make_run(7, components=[EMA], training={"checkpointEverySteps": 1, "keepCheckpoints": 8})
    carry_out(run, directory, "prepare")
    write_json(directory.manifest, plain(run))
    whole = RunDir(tmp_path / "whole")
    shutil.copytree(directory.root, whole.root)
    done = in_a_process(whole)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert [row["rows"] for row in read_jsonl(whole.train("ema-1") / "metrics.jsonl")] == [4, 3, 4, 3]
    for step in (2, 3, 4):  # before the checkpoint of that step was written
        assert in_a_process(directory, kill_at=step).returncode == -signal.SIGKILL
        assert [int(path.name.split("-")[1]) for path in checkpoints(directory.train("ema-1"))] == list(range(1, step))
    assert in_a_process(directory).returncode == 0
    assert same(weights(directory, "ema-1"), weights(whole, "ema-1"))
    last = [d.train("ema-1") / "checkpoint-4" / "unisd_tensors.safetensors" for d in (directory, whole)]
    assert same(load_file(last[0]), load_file(last[1]))
    steps = [row["step"] for row in read_jsonl(directory.train("ema-1") / "metrics.jsonl")]
    assert steps == [1, 2, 3, 4]


def test_sigterm_writes_a_checkpoint_and_says_so(make_run, carry_out):
    run, directory = make_run(
        24, components=[{"name": "sdft", "divergence": {}}], training={"epochs": 30, "checkpointEverySteps": 10000}
    )
    carry_out(run, directory, "prepare")
    write_json(directory.manifest, plain(run))
    program = "import sys\nfrom unisd.cli import main\nmain(sys.argv[1:])"
    arguments = ["train", "-f", str(directory.manifest), "--directory", str(directory.root), "--arm", "sdft-1"]
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", program, *arguments], stderr=subprocess.PIPE)
    metrics = directory.train("sdft-1") / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (metrics.is_file() and len(read_jsonl(metrics)) >= 2):
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 75, told.decode()[-2000:]
    (checkpoint,) = checkpoints(directory.train("sdft-1"))
    assert f"stopped after step {checkpoint.name.split('-')[1]}" in told.decode()
    assert read_json(checkpoint / "trainer_state.json")["global_step"] == int(checkpoint.name.split("-")[1])


def trained(make_run, carry_out, component, rows=8, **spec):
    run, directory = make_run(rows, components=[component], **spec)
    shutil.rmtree(directory.root, ignore_errors=True)
    carry_out(run, directory, "prepare", "contexts", "train")
    return directory


def job_of(run, directory):
    return Job(run, directory, resolve(run.spec)[0])


PRESETS = ["agreement_tok_retrieval", "agreement_seq_random", "ema", "contrastive", "match_joint", "match_repr", "clip"]


@pytest.mark.parametrize("preset", [*PRESETS, "unisd_star"])
def test_every_preset_changes_the_trained_weights_and_says_by_how_much(make_run, carry_out, preset):
    plain = weights(trained(make_run, carry_out, {"name": "plain", "divergence": {}}, rows=12), "plain-1")
    directory = trained(make_run, carry_out, {"name": "it", "preset": preset}, rows=12)
    found = weights(directory, "it-1")
    assert sum(float((found[name] - plain[name]).norm()) for name in plain) > 1e-3
    result = read_json(directory.train("it-1") / "result.json")
    expected = {"unisd_star": {"agreement", "contrastive", "ema", "features"}, "match_joint": {"features"}}
    expected |= {"match_repr": {"features"}}
    assert set(result["shares"]) == expected.get(preset, {preset.split("_")[0]})
    assert all(0.01 < share <= 1.0 for share in result["shares"].values()), result["shares"]
    assert not [warning for warning in result["warnings"] if "hardly acts" in warning]


def test_a_mechanism_that_hardly_acts_is_told(make_run, carry_out, caplog):
    directory = trained(make_run, carry_out, {"name": "it", "features": {"weight": 1e-9}})
    (warning,) = read_json(directory.train("it-1") / "result.json")["warnings"]
    assert "features is on and its share is 0.0000, under 0.01" in warning
    assert warning in caplog.text


def test_sequence_agreement_and_gate_and_quantile_scale(make_run, carry_out):
    component = {
        "name": "it",
        "agreement": {"level": "sequence", "gate": {"quantile": 0.5}},
        "contexts": {"source": "random"},
    }
    row = read_jsonl(trained(make_run, carry_out, component).train("it-1") / "metrics.jsonl")[0]
    assert row["agreement_scored_share"] == 0.5
    assert row["agreement_weight"] < 1
    full = {"name": "it", "agreement": {"level": "sequence"}, "contexts": {"source": "random"}}
    more = read_jsonl(trained(make_run, carry_out, full).train("it-1") / "metrics.jsonl")[0]
    assert row["tokens_scored"] < more["tokens_scored"]
    scaled = {"name": "it", "agreement": {"scale": "quantile", "gamma": 1.0}}
    assert read_jsonl(trained(make_run, carry_out, scaled).train("it-1") / "metrics.jsonl")[0]["agreement_weight"] < 0.9


def test_the_first_tokens_can_be_left_out_of_the_loss(make_run, carry_out):
    """The same completions at step 1; without their first tokens they teach something else."""
    component = {"name": "it", "divergence": {}}
    rows, kept = [], []
    for skip in (0, 4):
        directory = trained(make_run, carry_out, component, rows=4, training={"lossTokensToSkip": skip})
        rows.append(read_jsonl(directory.train("it-1") / "metrics.jsonl")[0])
        kept.append(weights(directory, "it-1"))
    assert rows[0]["completion_tokens"] == rows[1]["completion_tokens"]
    assert rows[0]["rows"] == rows[1]["rows"] == 4
    assert not same(*kept)


def test_the_ema_teacher_follows_by_the_formula(make_run, carry_out):
    directory = trained(
        make_run, carry_out, {"name": "it", "ema": {"decay": 0.9}}, training={"checkpointEverySteps": 1}
    )
    first, second = (directory.train("it-1") / f"checkpoint-{step}" for step in (1, 2))
    before, after = (load_file(c / "unisd_tensors.safetensors") for c in (first, second))
    student = load_file(second / "adapter_model.safetensors")
    for name, shadow in after.items():
        expected = 0.9 * before[name] + 0.1 * student[name.replace("base_model.model.base_model", "base_model")]
        torch.testing.assert_close(shadow, expected, atol=1e-7, rtol=1e-5)
    assert any((after[name] - before[name]).abs().max() > 0 for name in after)


def test_full_fine_tuning_with_ema_and_frozen_teacher(make_run, carry_out, tiny_model):
    full = {"fineTuning": "full", "learningRate": 1e-3}
    directory = trained(make_run, carry_out, {"name": "it", "ema": {"decay": 0.9}, "features": {}}, training=full)
    row = read_jsonl(directory.train("it-1") / "metrics.jsonl")[-1]
    assert 0 < row["share_ema"] < 1
    model = load_file(directory.train("it-1") / "adapter" / "model.safetensors")
    base = load_file(tiny_model / "model.safetensors")
    assert any(not torch.equal(model[name], base[name].to(model[name].dtype)) for name in base)
    frozen = trained(make_run, carry_out, {"name": "it", "divergence": {"alpha": 0.5}}, training=full)
    assert (frozen.train("it-1") / "adapter" / "config.json").is_file()


def test_the_result_loads_in_peft_and_in_transformers(make_run, carry_out, tiny_model):
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    adapter = trained(make_run, carry_out, {"name": "it", "preset": "sft"}).train("it-1") / "adapter"
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
def test_a_non_finite_step_changes_nothing(make_run, carry_out, monkeypatch, where):
    poisoned(monkeypatch, {2}, where)
    component = {
        "name": "it",
        "ema": {"decay": 0.5},
        "divergence": {"alpha": 0.5},
        "clip": {"quantile": 0.9},
        "training": {"epochs": 2},
    }
    directory = trained(make_run, carry_out, component, training={"checkpointEverySteps": 1, "keepCheckpoints": 9})
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


def test_non_finite_steps_in_a_row_stop_the_run(make_run, carry_out, monkeypatch):
    poisoned(monkeypatch, {1, 2, 3}, "gradient")
    with pytest.raises(StageError, match="3 steps in a row had a non-finite loss or gradient") as error:
        trained(make_run, carry_out, {"name": "it", "divergence": {}}, rows=16)
    assert error.value.reason == "NonFinite"


def test_a_collapsing_policy_is_stopped_with_a_sample(make_run, carry_out):
    guard = {"guard": {"action": "Stop", "window": 2, "maxTruncatedShare": 0.5}}
    with pytest.raises(StageError, match=r"truncated_share 1.000 is above 0.5 over 2 steps; a completion") as error:
        trained(make_run, carry_out, {"name": "it", "divergence": {}}, rows=12, training=guard)
    assert error.value.reason == "PolicyCollapsed"


def test_a_step_whose_rows_are_all_cut_is_skipped_and_counted(make_run, carry_out):
    directory = trained(
        make_run,
        carry_out,
        {"name": "it", "preset": "unisd_star"},
        training={"maskTruncated": True, "lossTokensToSkip": 7},
    )
    rows = read_jsonl(directory.train("it-1") / "metrics.jsonl")
    assert [row["skipped_steps"] for row in rows] == [1, 2]
    assert all(float(v.abs().max()) == 0 for k, v in weights(directory, "it-1").items() if "lora_B" in k)


def test_probes_keep_the_best(make_run, carry_out):
    evaluation = {"evaluation": {"everySteps": 1, "probeExamples": 3, "checkpoint": "best"}}
    evaluation["training"] = {"checkpointEverySteps": 1}
    directory = trained(make_run, carry_out, {"name": "it", "divergence": {}}, rows=11, **evaluation)
    probes = read_jsonl(directory.train("it-1") / "probes.jsonl")
    assert [row["step"] for row in probes] == [1, 2]
    shutil.rmtree(checkpoints(directory.train("it-1"))[-1])
    run, _ = make_run(11, components=[{"name": "it", "divergence": {}}], **evaluation)
    training.train(job_of(run, directory))
    assert read_jsonl(directory.train("it-1") / "probes.jsonl") == probes
    result = read_json(directory.train("it-1") / "result.json")
    assert (
        result["exportedStep"]
        == result["best"]["step"]
        == read_json(directory.train("it-1") / "best/probe.json")["step"]
    )
    assert same(weights(directory, "it-1"), load_file(directory.train("it-1") / "best/adapter_model.safetensors"))


def test_a_corrupt_checkpoint_is_passed_over_and_said(make_run, carry_out, caplog):
    component = {"name": "it", "divergence": {}}
    directory = trained(make_run, carry_out, component, rows=12, training={"checkpointEverySteps": 1})
    before = weights(directory, "it-1")
    newest = checkpoints(directory.train("it-1"))[-1]
    (newest / "optimizer.pt").write_bytes(b"nonsense")
    run, _ = make_run(12, components=[component], training={"checkpointEverySteps": 1})
    training.train(job_of(run, directory))
    assert "checkpoint-3 is corrupt (optimizer.pt differs from what was written)" in caplog.text
    assert same(weights(directory, "it-1"), before)


def test_no_whole_checkpoint_is_an_error(make_run, carry_out):
    component = {"name": "it", "divergence": {}}
    directory = trained(make_run, carry_out, component)
    for checkpoint in checkpoints(directory.train("it-1")):
        (checkpoint / "manifest.json").unlink()
    run, _ = make_run(8, components=[component])
    with pytest.raises(StageError, match="no whole checkpoint") as error:
        training.train(job_of(run, directory))
    assert error.value.reason == "CheckpointCorrupt"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")
def test_a_full_disk_leaves_the_checkpoints_before(make_run, carry_out, tmp_path):
    run, directory = make_run(
        12, components=[{"name": "it", "divergence": {}}], training={"checkpointEverySteps": 1, "keepCheckpoints": 9}
    )
    carry_out(run, directory, "prepare")
    target = directory.train("it-1")
    target.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(target)], check=True)
    try:
        with pytest.raises(StageError, match="no room for checkpoint") as error:
            training.train(job_of(run, directory))
        assert error.value.reason == "StorageFull"
        assert not list(target.glob(".*partial"))
        assert all((path / "manifest.json").is_file() for path in checkpoints(target))
    finally:
        subprocess.run(["umount", "--lazy", str(target)], check=True)


TWO_RANKS = """
import sys, torch
from pathlib import Path
torch.set_num_threads(1)
from unisd.config.load import parse_run
from unisd.config.resolve import resolve
from unisd.job import Job
from unisd.rundir import RunDir, read_json
from unisd import train as training
root = Path(sys.argv[1])
run = parse_run(read_json(root / "run.json"))
training.train(Job(run, RunDir(root), resolve(run.spec)[0]))
"""


def test_two_processes_train_what_one_does(make_run, carry_out, tmp_path):
    """The same 4 rows a step, once as 2 × 2 in one process, once as 2 × 1 in each of two."""
    component = {"name": "it", "preset": "unisd_star", "clip": {"quantile": 0.9}}
    one = trained(make_run, carry_out, component, rows=10, training={"learningRate": 1e-3})
    run, _ = make_run(10, components=[component], training={"learningRate": 1e-3, "gradientAccumulationSteps": 1})
    two = RunDir(tmp_path / "two")
    shutil.copytree(one.prepared, two.prepared)
    shutil.copytree(one.contexts, two.contexts)
    write_json(two.manifest, plain(run))
    script = tmp_path / "train.py"
    script.write_text(TWO_RANKS, encoding="utf-8")
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            "2",
            str(script),
            str(two.root),
        ],
        capture_output=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    mine, theirs = weights(one, "it-1"), weights(two, "it-1")
    for name in mine:
        torch.testing.assert_close(theirs[name], mine[name], atol=2e-4, rtol=2e-2)
    rows = [read_jsonl(d.train("it-1") / "metrics.jsonl") for d in (one, two)]
    for a, b in zip(*rows, strict=True):
        assert a["rows"] == b["rows"]
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-3)


def test_stage_hashes_cover_what_changes_results(make_run):
    run, _ = make_run()
    changed, _ = make_run(components=[{"name": "star", "preset": "unisd_star", "agreement": {"gamma": 0.5}}])
    before, after = ({s.name: s.hash for s in stages(r, {})} for r in (run, changed))
    assert before["prepare"] == after["prepare"]
    assert before["train/star-1"] != after["train/star-1"]
    assert before["evaluate/star-1"] != after["evaluate/star-1"]
    with_rows = {s.name: s.hash for s in stages(run, {"rows": "other"})}
    assert all(with_rows[name] != before[name] for name in before)


def test_metrics_are_all_named(make_run, carry_out):
    from unisd.metrics.names import STEP_METRICS

    everything = {"preset": "unisd_star", "clip": {"quantile": 0.9}, "sampling": {"onPolicy": 0.5}}
    directory = trained(make_run, carry_out, {"name": "it", **everything})
    rows = read_jsonl(directory.train("it-1") / "metrics.jsonl")
    assert {name for row in rows for name in row} - {"step"} == set(STEP_METRICS)
    json.dumps(rows, allow_nan=False)
