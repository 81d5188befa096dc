"""Training that is killed, stopped, out of room or misled by broken files goes on from its newest whole checkpoint."""

import os
import shutil
import signal
import subprocess
import sys

import pytest
from safetensors.torch import load_file

from tests.cluster.waiting import eventually
from unisd import train as training
from unisd.config.load import plain
from unisd.config.resolve import resolve
from unisd.failures import StageError
from unisd.files import read_json, read_jsonl, write_json
from unisd.job import Job
from unisd.rundir import RunDir
from unisd.sealed import fault_of
from unisd.training.checkpoint import checkpoints

pytestmark = pytest.mark.slow

EMA = {"name": "ema", "preset": "ema", "training": {"epochs": 2}}


SCRIPT = """
import os, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from unisd.config.load import parse_run
from unisd.config.resolve import resolve
from unisd.job import Job
from unisd.files import read_json
from unisd.rundir import RunDir
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


def job_of(run, directory):
    return Job(run, directory, resolve(run.spec)[0])


def test_killed_and_resumed_ends_in_the_same_bits(weights, same, make_run, carry_out, tmp_path):
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
        24, components=[{"name": "sdft", "divergence": {}}], training={"epochs": 1000, "checkpointEverySteps": 10000}
    )
    carry_out(run, directory, "prepare")
    write_json(directory.manifest, plain(run))
    program = "import sys\nfrom unisd.cli import main\nmain(sys.argv[1:])"
    arguments = ["train", "-f", str(directory.manifest), "--directory", str(directory.root), "--arm", "sdft-1"]
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", program, *arguments], stderr=subprocess.PIPE)
    metrics = directory.train("sdft-1") / "metrics.jsonl"
    eventually(lambda: metrics.is_file() and len(read_jsonl(metrics)) >= 2, within=240)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=240)
    assert process.returncode == 75, told.decode()[-2000:]
    (checkpoint,) = checkpoints(directory.train("sdft-1"))
    assert f"stopped after step {checkpoint.name.split('-')[1]}" in told.decode()
    assert read_json(checkpoint / "trainer_state.json")["global_step"] == int(checkpoint.name.split("-")[1])


def test_probes_keep_the_best(trained, weights, same, make_run):
    evaluation = {"evaluation": {"everySteps": 1, "probeExamples": 3, "checkpoint": "best"}}
    evaluation["training"] = {"checkpointEverySteps": 1}
    directory = trained({"name": "it", "divergence": {}}, rows=11, **evaluation)
    probes = read_jsonl(directory.train("it-1") / "probes.jsonl")
    assert [row["step"] for row in probes] == [1, 2]
    first_of_the_best = max(probes, key=lambda row: row["score"])["step"]
    shutil.rmtree(checkpoints(directory.train("it-1"))[-1])
    run, _ = make_run(11, components=[{"name": "it", "divergence": {}}], **evaluation)
    training.train(job_of(run, directory))
    assert read_jsonl(directory.train("it-1") / "probes.jsonl") == probes
    result = read_json(directory.train("it-1") / "result.json")
    assert (
        result["exportedStep"]
        == result["best"]["step"]
        == read_json(directory.train("it-1") / "best/probe.json")["step"]
        == first_of_the_best
    )
    assert same(weights(directory, "it-1"), load_file(directory.train("it-1") / "best/adapter_model.safetensors"))


def test_a_corrupt_checkpoint_is_passed_over_and_said(trained, weights, same, make_run, caplog):
    component = {"name": "it", "divergence": {}}
    directory = trained(component, rows=12, training={"checkpointEverySteps": 1})
    before = weights(directory, "it-1")
    newest = checkpoints(directory.train("it-1"))[-1]
    (newest / "optimizer.pt").write_bytes(b"nonsense")
    run, _ = make_run(12, components=[component], training={"checkpointEverySteps": 1})
    training.train(job_of(run, directory))
    assert "checkpoint-3 is corrupt (optimizer.pt differs from what was written)" in caplog.text
    assert same(weights(directory, "it-1"), before)
    assert fault_of(newest) is None, "it was written again"


def test_no_whole_checkpoint_is_an_error(trained, make_run):
    component = {"name": "it", "divergence": {}}
    directory = trained(component)
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
