"""`unisd run` with `rollout.engine: vllm` from the manifest to the report, on a vLLM that the runner starts and ends."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from examples.make_tiny_model import make_tiny_model
from tests.cluster.waiting import eventually
from tests.conftest import manifest, rows
from tests.rollouts import vllm_cpu
from unisd.files import read_json, read_jsonl
from unisd.rundir import RunDir

pytestmark = [pytest.mark.slow, pytest.mark.vllm]


@pytest.fixture
def run_file(tmp_path):
    model = make_tiny_model(tmp_path / "tiny", hidden_size=128, num_attention_heads=2, num_key_value_heads=1)
    for name, found in (("train", rows(8)), ("validation", rows(4, first=200))):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")
    components = [{"name": "raw", "preset": "raw"}, {"name": "star", "preset": "unisd_star"}]
    probes = {"everySteps": 1, "probeExamples": 2}
    data = manifest(model, tmp_path, components=components, rollout={"engine": "vllm"}, evaluation=probes)
    data["spec"]["training"]["precision"] = "bfloat16"
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(data))
    return tmp_path / "run.yaml"


def test_a_run_on_one_machine(run_file):
    out = RunDir(run_file.parent / "out")
    environment = {
        **os.environ,
        "UNISD_VLLM": str(vllm_cpu.program()),
        "UNISD_CACHE": str(run_file.parent / "cache"),
        "TERM": "dumb",
    }
    program = "from unisd.cli import main; main()"
    command = [sys.executable, "-c", program, "run", "-f", str(run_file), "--directory", str(out.root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    log = (out.stage("rollout") / "log.txt").read_text(encoding="utf-8")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{log[-4000:]}"
    assert set(read_json(out.report / "report.json")["tasks"]["cos_e"]["components"]) == {"raw", "star"}
    steps = read_jsonl(out.trained("star-1") / "metrics.jsonl")
    assert all(step["logp_difference"] < 0.1 and step["policy_lag"] == 0 for step in steps), steps
    assert read_json(out.stage("train/star-1") / "progress.json")["policyVersion"] == {"trainer": 2, "rollout": 2}
    assert len(read_jsonl(out.trained("star-1") / "probes.jsonl")) == len(steps)
    assert log.count("Application startup complete") == 1, "all stages share one server"
    eventually(
        lambda: not [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(out.root).encode() in _read(path)]
    )


def _read(path):
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
