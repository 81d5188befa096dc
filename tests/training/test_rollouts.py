"""A training that samples from servers: which version each step asks for, and what it does when they disagree."""

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from tests.rollouts.fake_vllm import FakeVllm, Served
from unisd.config.load import plain
from unisd.failures import StageError
from unisd.files import read_json, read_jsonl, write_json
from unisd.rollouts.adapter import policy_body, policy_of
from unisd.rollouts.agent import AgentSettings, agent_app
from unisd.rollouts.policy import read_config
from unisd.training.rollouts import adapter_state

ROOT = Path(__file__).parents[2]
SERVED = {"rollout": {"engine": "vllm"}, "evaluation": {"perplexity": True}}
TOLERANT = {"training": {"guard": {"maxLogpDifference": 1000}, "checkpointEverySteps": 1}}
SDFT = {"name": "it", "divergence": {}}


def test_an_adapter_travels_in_the_same_bytes_whoever_sends_it(tiny_model, tmp_path):
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(tiny_model), LoraConfig(r=4, target_modules=["q_proj", "v_proj"])
    )
    torch.nn.init.normal_(model.base_model.model.model.layers[0].self_attn.q_proj.lora_B["default"].weight)
    sent = policy_body(adapter_state(model), model.peft_config["default"].to_dict(), "bfloat16")
    model.save_pretrained(tmp_path / "adapter")
    assert policy_of(tmp_path / "adapter", "bfloat16") == sent
    (tmp_path / "adapter_model.safetensors").write_bytes(sent)
    assert read_config(tmp_path / "adapter_model.safetensors")["target_modules"] == ["q_proj", "v_proj"]
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model), str(tmp_path / "adapter"))
    assert policy_of(tmp_path / "adapter", "bfloat16") == policy_body(
        adapter_state(loaded), loaded.peft_config["default"].to_dict(), "bfloat16"
    )
    assert len(policy_of(tmp_path / "adapter", "float32")) > len(sent)


@pytest.fixture
def vllm(tmp_path, monkeypatch):
    """A server as a stage's environment names it; completions are the prompt, the version and a stop token."""
    fake = FakeVllm()
    server = Served(fake.app)
    apps = agent_app(AgentSettings(server.urls[0], "secret", tmp_path / "adapters"))
    agent = Served(lambda: apps[0], lambda: apps[1])
    monkeypatch.setenv("UNISD_ROLLOUT_SERVICE", f"127.0.0.1:{agent.ports[0]}")
    monkeypatch.setenv("UNISD_API_KEY", "secret")
    yield fake
    agent.stop()
    server.stop()


@pytest.mark.slow
def test_each_step_samples_from_the_version_before_it_and_evaluation_from_the_last(vllm, make_run, carry_out):
    run, directory = make_run(12, components=[SDFT], **SERVED, **TOLERANT)
    carry_out(run, directory, "prepare", "train", "evaluate")
    asked = list(dict.fromkeys(vllm.asked))
    assert asked == ["base", "it-1-v1", "it-1-v2", "it-1-v3"]
    assert vllm.asked[-4:] == ["base"] * 4, "retention is scored under the base"
    rows = read_jsonl(directory.train("it-1") / "metrics.jsonl")
    assert [row["policy_lag"] for row in rows] == [0, 0, 0]
    assert all(row["seconds_push"] > 0 for row in rows)
    assert all(row["logp_difference"] > 0.2 for row in rows)
    assert vllm.requests.count("/v1/load_lora_adapter") == 3, "evaluation finds the last version there"
    (score,) = read_json(directory.evaluate("it-1") / "evaluation.json")["tasks"].values()
    assert score["rows"] == 4


@pytest.mark.slow
def test_of_two_processes_one_brings_the_policy_and_each_asks_for_its_own_rows(vllm, make_run, carry_out, tmp_path):
    """Its rows of a step, and of the probe after it."""
    probes = {"evaluation": {"everySteps": 1, "probeExamples": 2}}
    run, directory = make_run(14, components=[SDFT], **SERVED | probes, **TOLERANT)
    carry_out(run, directory, "prepare")
    write_json(directory.manifest, plain(run))
    write_json(tmp_path / "cases.json", [{"root": str(directory.root)}])
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    ranks = [str(ROOT / "tests/training/ranks.py"), str(tmp_path / "cases.json")]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'operator'}", "DS_ACCELERATOR": "cpu"}
    done = subprocess.run([*command, *ranks], capture_output=True, text=True, check=False, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-4000:]
    assert [read_json(directory.root / f"ended-{rank}.json") for rank in (0, 1)] == ["done", "done"]
    assert vllm.asked == ["base"] * 8 + ["it-1-v1"] * (2 + 4) + ["it-1-v2"] * 2
    assert vllm.requests.count("/v1/load_lora_adapter") == 2
    rows = read_jsonl(directory.train("it-1") / "metrics.jsonl")
    assert [(row["rows"], row["policy_lag"]) for row in rows] == [(8, 0), (4, 0)]


@pytest.mark.slow
def test_in_the_trainer_both_sides_are_one_model(trained):
    rows = read_jsonl(trained(SDFT).train("it-1") / "metrics.jsonl")
    assert all(row["logp_difference"] < 1e-3 for row in rows)
    assert "policy_lag" not in rows[0]


@pytest.mark.slow
def test_servers_that_disagree_with_the_trainer_end_it(vllm, make_run, carry_out):
    run, directory = make_run(4, components=[SDFT], **SERVED)
    with pytest.raises(StageError, match=r"step 1: rollouts and trainer differ by .*maxLogpDifference of 0.2") as told:
        carry_out(run, directory, "prepare", "train")
    assert told.value.exit_code == 71


@pytest.mark.slow
def test_a_trainer_that_waits_for_its_servers_can_be_stopped(monkeypatch, make_run, carry_out):
    """Asked to stop when it first looks for its server, which never answers."""
    run, directory = make_run(4, components=[SDFT], **SERVED)
    carry_out(run, directory, "prepare")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("UNISD_ROLLOUT_SERVICE", f"127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("UNISD_API_KEY", "secret")

        def stop():
            with silent.accept()[0]:
                signal.raise_signal(signal.SIGTERM)

        waiter = threading.Thread(target=stop)
        waiter.start()
        with pytest.raises(StageError, match="stopped after step 0"):
            carry_out(run, directory, "train")
        waiter.join()
