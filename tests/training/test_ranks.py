"""Two processes train what one does: plain, and under DeepSpeed at every stage, adapters and all weights.

One launch of torchrun carries out all trainings of two processes. 9 rows, 4 a step: the last step's only row leaves
one process without any; packs are small, so that processes need different numbers of scoring passes.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from tests.conftest import manifest, rows
from unisd import train as training
from unisd.config.load import parse_run, plain
from unisd.config.resolve import resolve
from unisd.failures import StageError
from unisd.files import read_json, read_jsonl, write_json
from unisd.job import Job, stage_function
from unisd.rundir import RunDir
from unisd.stages import stages

pytestmark = pytest.mark.slow

TRAINING = {"learningRate": 1e-3, "checkpointEverySteps": 1, "keepCheckpoints": 9, "maxTokensPerPass": 700}
KINDS = {
    "lora": {"components": [{"name": "it", "preset": "unisd_star", "clip": {"quantile": 0.9}}], "training": TRAINING},
    "full": {
        "components": [{"name": "it", "ema": {"decay": 0.9}, "contrastive": {}}],
        "training": {**TRAINING, "fineTuning": "full"},
    },
    "sft": {"components": [{"name": "it", "preset": "sft"}], "training": TRAINING},
    "untied": {"components": [{"name": "it", "divergence": {}}], "training": {**TRAINING, "fineTuning": "full"}},
}
STAGES = ["lora-0", "lora-1", "lora-2", "lora-3", "full-0", "full-1", "full-2", "full-3", "sft-0", "sft-2", "sft-3"]
STAGES += ["untied-0", "untied-3"]
NARROW = ["lora-2-narrow", "lora-3-narrow", "full-3-narrow", "sft-3-narrow"]
SCRIPT = Path(__file__).parent / "ranks.py"


def untied(model, folder):
    """The model with random weights and an output layer of its own, which the loss alone reaches."""
    shutil.copytree(model, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    config = AutoConfig.from_pretrained(model, tie_word_embeddings=False)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


class Ranks:
    """Trainings of two processes, and those of one that they are compared with."""

    def __init__(self, base, model):
        self._base, self._model, self._untied = base, model, untied(model, base / "model")
        self.cases, self.said = [], ""

    def directory(self, name):
        return RunDir(self._base / name)

    def arm(self, name):
        return self.directory(name).train("it-1")

    def spec(self, kind, processes=1, stage=0, precision="float32"):
        data = self._base / "data"
        data.mkdir(exist_ok=True)
        for name, found in (("train", rows(11)), ("validation", rows(4, first=200))):
            (data / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")
        changed = {"gradientAccumulationSteps": 2 // processes, "precision": precision}
        return parse_run(
            manifest(
                self._untied if kind == "untied" else self._model,
                data,
                components=KINDS[kind]["components"],
                training={**KINDS[kind]["training"], **changed},
                evaluation={"everySteps": 1, "probeExamples": 2},
                trainer={"numProcPerNode": processes, "deepspeed": {"stage": stage}},
            )
        )

    def alone(self, kind):
        """Trains with one process, in this one."""
        run, directory = self.spec(kind), self.directory(kind)
        for stage in stages(run, {}):
            if stage.name.startswith(("prepare", "contexts")):
                stage_function(stage.kind)(Job(run, directory, stage.arm))
        shutil.copytree(directory.root, self.directory(f"{kind}-prepared").root)
        training.train(Job(run, directory, resolve(run.spec)[0]))

    def together(self, name, **case):
        """Adds a training of two processes; the name is its kind, its stage and what is special about it."""
        kind, stage, *special = name.split("-")
        root = self.directory(name).root
        shutil.copytree(self.directory(f"{kind}-prepared").root, root)
        write_json(
            root / "run.json", plain(self.spec(kind, 2, int(stage), "bfloat16" if special == ["narrow"] else "float32"))
        )
        self.cases.append({"root": str(root), **case})

    def launch(self):
        write_json(self._base / "cases.json", self.cases)
        torchrun = [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            "2",
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            [*torchrun, str(SCRIPT), str(self._base / "cases.json")], capture_output=True, check=False, env=environment
        )
        self.said = done.stderr.decode()
        assert done.returncode == 0, self.said[-6000:]

    def ended(self, name):
        return [read_json(self.directory(name).root / f"ended-{rank}.json") for rank in (0, 1)]

    def weights(self, name, place="adapter"):
        (file,) = (self.arm(name) / place).glob("*model.safetensors")
        return load_file(file)


@pytest.fixture(scope="module")
def ranks(tiny_model, tmp_path_factory):
    base = tmp_path_factory.mktemp("ranks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNISD_CACHE", str(base / "cache"))
        found = Ranks(base, tiny_model)
        for kind in KINDS:
            found.alone(kind)
        for name in STAGES:
            found.together(name)
        for name in NARROW:
            found.together(name)
        found.together("lora-3-resumed", **{"from": str(found.directory("lora").root)})
        found.together("full-3-resumed", **{"from": str(found.directory("full-3").root)})
        found.together("lora-2-poisoned", poison=2)
        found.together("lora-3-poisoned", poison=2)
        found.together("lora-3-stopped", stop=2)
        found.launch()
        yield found


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=2e-6, rtol=1e-4, msg=name)


def assert_same_steps(found, expected):
    for mine, theirs in zip(found, expected, strict=True):
        for name in ("rows", "loss", "grad_norm", "entropy"):
            assert mine[name] == pytest.approx(theirs[name], rel=1e-4), (name, mine["step"])


@pytest.mark.parametrize("name", STAGES)
def test_two_processes_train_what_one_does(ranks, name):
    kind = name.split("-")[0]
    assert ranks.ended(name) == ["done", "done"]
    steps, expected = (read_jsonl(ranks.arm(n) / "metrics.jsonl") for n in (name, kind))
    assert [row["rows"] for row in steps] == [4, 4, 1]
    assert_same_steps(steps, expected)
    assert_same(ranks.weights(name), ranks.weights(kind))
    assert_same(ranks.weights(name, "best"), ranks.weights(kind, "best"))
    assert read_jsonl(ranks.arm(name) / "probes.jsonl") == read_jsonl(ranks.arm(kind) / "probes.jsonl")


def test_processes_do_not_look_for_weights_without_gradient_where_all_have_one(ranks):
    assert "find_unused_parameters" not in ranks.said


@pytest.mark.parametrize("name", NARROW)
def test_in_bfloat16_what_is_trained_is_float32(ranks, name):
    kind = name.split("-")[0]
    assert ranks.ended(name) == ["done", "done"]
    found, expected = ranks.weights(name), ranks.weights(kind)
    assert all(value.dtype == torch.float32 for value in found.values())
    assert 0 < max(float((found[key] - expected[key]).abs().max()) for key in expected) < 5e-3
    steps = [read_jsonl(ranks.arm(n) / "metrics.jsonl") for n in (name, kind)]
    assert steps[0][0]["loss"] == pytest.approx(steps[1][0]["loss"], rel=0.2)


@pytest.mark.parametrize("name", ["lora-1", "lora-2", "lora-3", "full-1", "full-2", "full-3"])
def test_checkpoints_keep_the_average_whatever_the_stage(ranks, name):
    for step in (1, 2, 3):
        found, expected = (
            load_file(ranks.arm(n) / f"checkpoint-{step}" / "unisd_tensors.safetensors")
            for n in (name, name.split("-")[0])
        )
        assert_same(found, expected)


@pytest.mark.parametrize("name", ["lora-1", "lora-2", "lora-3"])
def test_moments_of_adapters_are_kept_as_one_process_keeps_them(ranks, name):
    found, expected = (torch.load(ranks.arm(n) / "checkpoint-2" / "optimizer.pt") for n in (name, "lora"))
    assert found["param_groups"] == expected["param_groups"]
    assert found["state"].keys() == expected["state"].keys()
    for index, state in expected["state"].items():
        assert found["state"][index]["step"] == state["step"]
        torch.testing.assert_close(found["state"][index]["exp_avg"], state["exp_avg"], atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize("name", ["lora-3-resumed", "full-3-resumed"])
def test_two_processes_go_on_from_a_checkpoint(ranks, name):
    """Of adapters that one process wrote; of all weights that two wrote."""
    assert ranks.ended(name) == ["done", "done"]
    assert [row["step"] for row in read_jsonl(ranks.arm(name) / "metrics.jsonl")][-2:] == [2, 3]
    assert_same(ranks.weights(name), ranks.weights(name.split("-")[0]))


def test_one_process_goes_on_from_what_two_wrote_when_one_was_told_to_stop(ranks):
    assert all(ended.startswith("Interrupted: stopped after step 1") for ended in ranks.ended("lora-3-stopped"))
    assert [path.name for path in ranks.arm("lora-3-stopped").glob("checkpoint-*")] == ["checkpoint-1"]
    run = parse_run(read_json(ranks.directory("lora-3-stopped").manifest))
    training.train(Job(run, ranks.directory("lora-3-stopped"), resolve(run.spec)[0]))
    assert_same(ranks.weights("lora-3-stopped"), ranks.weights("lora"))


def test_full_fine_tuning_refuses_another_number_of_processes(ranks):
    run = parse_run(read_json(ranks.directory("full-3").manifest))
    with pytest.raises(StageError, match="by 2 processes with ZeRO stage 3, here are 1 with stage 0") as error:
        training.train(Job(run, ranks.directory("full-3"), resolve(run.spec)[0]))
    assert error.value.reason == "BadInput"


@pytest.mark.parametrize("name", ["lora-2-poisoned", "lora-3-poisoned"])
def test_a_non_finite_step_on_one_process_changes_nothing_on_any(ranks, name):
    assert ranks.ended(name) == ["done", "done"]
    assert [row["non_finite_steps"] for row in read_jsonl(ranks.arm(name) / "metrics.jsonl")] == [0, 1, 1]
    first, second, third = (ranks.weights(name, f"checkpoint-{step}") for step in (1, 2, 3))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not all(torch.equal(second[key], third[key]) for key in first)
    moments = [torch.load(ranks.arm(name) / f"checkpoint-{step}" / "optimizer.pt")["state"] for step in (1, 2)]
    assert all(torch.equal(moments[0][key]["exp_avg"], moments[1][key]["exp_avg"]) for key in moments[0])


def test_what_sharded_processes_leave_loads_in_peft(ranks):
    from peft import AutoPeftModelForCausalLM

    model = AutoPeftModelForCausalLM.from_pretrained(ranks.arm("lora-3") / "adapter")
    expected = ranks.weights("lora")
    found = {name.replace(".default", ""): value for name, value in model.state_dict().items() if "lora_" in name}
    assert_same(found, expected)
