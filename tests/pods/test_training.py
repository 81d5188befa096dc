"""Trainings in two pods: what a signal, a failure and a death in one of them mean for both."""

import os
import shutil
import signal

import pytest
import torch
from safetensors.torch import load_file
from unisd_operator.log_text import reason_in

from unisd.files import read_json, read_jsonl
from unisd.rundir import RunDir
from unisd.sealed import fault_of
from unisd.training.checkpoint import checkpoints, step_of

pytestmark = pytest.mark.slow

ENDLESS = {"training": {"epochs": 200, "checkpointEverySteps": 10000, "gradientAccumulationSteps": 1}}
# Imported by every process before its work: the one of rank 1 fails at the end of its first step.
FAILING = """
import os
if os.environ.get("RANK") == "1":
    from unisd.failures import StageError
    from unisd.training import loop
    finish = loop.StepLoop.finish_step
    def finish_and_fail(self, control):
        finish(self, control)
        raise StageError("PolicyCollapsed", "as the test wished")
    loop.StepLoop.finish_step = finish_and_fail
"""
# The same for memory: that of rank 1 does not suffice, at its second step, for passes of more than `most` rows.
SCARCE = """
import os
if os.environ.get("RANK") == "1":
    import torch
    from unisd.training.trainer import UniSDTrainer
    score = UniSDTrainer._score
    def score_with_little_memory(self, step, scored_rows):
        if self.state.global_step == 1 and self.passes_of(self.context.arm.training.per_device_batch_size) > {most}:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.32 GiB. GPU 1 has a total capacity")
        return score(self, step, scored_rows)
    UniSDTrainer._score = score_with_little_memory
"""


def test_sigterm_to_one_pod_checkpoints_all_and_the_next_attempt_goes_on(training):
    it = training(**ENDLESS)
    first, second = it.start(1)
    it.at_step(1, 2)
    second.process.send_signal(signal.SIGTERM)
    assert (first.ended(), second.ended()) == (75, 75), first.log + second.log
    (checkpoint,) = checkpoints(RunDir(it.directory.root, 1).train("it-1"))
    step = step_of(checkpoint)
    assert fault_of(checkpoint) is None
    for pod in (first, second):
        assert pod.words["failure"]["reason"] == "Interrupted"
        assert f"stopped after step {step}" in pod.words["failure"]["message"]
        assert pod.words["result"]["progress"]["step"] == step
        assert pod.words["result"]["checkpoint"]["step"] == step
    pods = it.start(2)
    it.at_step(2, step + 1)
    pods[0].process.send_signal(signal.SIGTERM)
    assert [pod.ended() for pod in pods] == [75, 75]
    steps = [row["step"] for row in read_jsonl(RunDir(it.directory.root, 2).train("it-1") / "metrics.jsonl")]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) > step


def test_the_code_of_the_process_that_failed_comes_out(training):
    """Rank 1 fails by itself; rank 0, in the other pod, loses it."""
    it = training(**ENDLESS)
    (it.root / "sitecustomize.py").write_text(FAILING)
    first, second = it.start(1)
    assert (first.ended(), second.ended()) == (1, 66), first.log + second.log
    assert second.words["failure"] == {"reason": "PolicyCollapsed", "message": "as the test wished"}
    assert "process 0 of the training lost another one" in first.words["failure"]["message"]


def test_a_process_killed_in_one_pod_ends_the_other(training):
    it = training(**ENDLESS)
    first, second = it.start(1)
    it.at_step(1, 1)
    (worker,) = second.workers()
    os.kill(worker, signal.SIGKILL)
    assert (first.ended(), second.ended()) == (1, 137), first.log + second.log
    assert second.words["failure"]["message"] == "process 1 of the training was killed by SIGKILL"
    assert "process 0 of the training lost another one" in first.words["failure"]["message"]
    assert reason_in(first.words["failure"]["message"]) == "NcclError"


def test_two_processes_in_one_pod_train_to_the_end_and_are_not_begun_anew(training):
    it = training(rows=8, training={"gradientAccumulationSteps": 1})
    (pod,) = it.start(1, nodes=1, processes=2)
    assert pod.ended() == 0, pod.log
    directory = RunDir(it.directory.root, 1)
    adapter = directory.train("it-1") / "adapter"
    weights = adapter / "adapter_model.safetensors"
    assert weights.stat().st_mode & 0o444 == adapter.stat().st_mode & 0o444, "pods of other users read it"
    assert read_json(directory.stage("train/it-1") / "done.json")["seconds"] > 0
    assert pod.words["result"]["progress"]["progressPercentage"] == 100
    (again,) = it.start(2, nodes=1, processes=2)
    assert again.ended() == 0
    assert again.words == pod.words
    assert "is finished" in again.log


def of_two_rows(rows, passes):
    """Settings of two processes that train two rows a step each, in passes of so many."""
    training = {"perDeviceBatchSize": rows, "gradientAccumulationSteps": passes, "checkpointEverySteps": 1}
    return {"rows": 8, "training": {**training, "keepCheckpoints": 9}}


def adapter(directory):
    return load_file(directory.train("it-1") / "adapter/adapter_model.safetensors")


def test_where_one_process_ran_out_of_memory_the_next_attempt_goes_on_in_passes_half_as_large(training, tmp_path):
    small = training(**of_two_rows(1, 2))
    (pod,) = small.start(1, nodes=1, processes=2)
    assert pod.ended() == 0, pod.log
    directory = RunDir(small.directory.root, 1)
    expected, wanted = adapter(directory), read_jsonl(directory.train("it-1") / "metrics.jsonl")
    shutil.rmtree(directory.root)

    it = training(**of_two_rows(2, 1))
    (tmp_path / "sitecustomize.py").write_text(SCARCE.format(most=1))
    (pod,) = it.start(1, nodes=1, processes=2)
    assert pod.ended() == 1, pod.log
    message = pod.words["failure"]["message"]
    assert message.startswith("step 2: memory ran out: passes of 1 rows in place of 2, 2 a step in place of 1")
    assert reason_in(message) == "CudaError"
    (pod,) = it.start(2, nodes=1, processes=2)
    assert pod.ended() == 0, pod.log
    directory = RunDir(it.directory.root, 2)
    result = read_json(directory.train("it-1") / "result.json")
    assert result["counters"]["memory_halvings"] == 1
    assert any("passes of 1 rows in place of 2" in warning for warning in result["warnings"])
    steps = read_jsonl(directory.train("it-1") / "metrics.jsonl")
    assert [row["rows"] for row in steps] == [row["rows"] for row in wanted] == [4, 4]
    assert [row["loss"] for row in steps] == pytest.approx([row["loss"] for row in wanted], rel=1e-4)
    found = adapter(directory)
    assert all(torch.allclose(found[name], expected[name], atol=2e-4) for name in expected)


def test_passes_are_halved_attempt_by_attempt_until_one_row_is_too_much(training, tmp_path):
    it = training(**of_two_rows(2, 1))
    (tmp_path / "sitecustomize.py").write_text(SCARCE.format(most=0))
    (first,) = it.start(1, nodes=1, processes=2)
    assert first.ended() == 1, first.log
    (second,) = it.start(2, nodes=1, processes=2)
    assert second.ended() == 65, second.log
    assert "one row at a time: set training.gradientCheckpointing" in second.words["failure"]["message"]


def test_a_pod_whose_others_never_come_ends_when_it_is_told_to(training):
    it = training(**ENDLESS)
    pod = it.start(1, only=1)[0]
    it.wait_for(lambda: list(pod.place.glob("unisd-train-*/job.json")))
    pod.process.send_signal(signal.SIGTERM)
    assert pod.ended() == 75, pod.log
    assert pod.words["failure"]["reason"] == "Interrupted"
