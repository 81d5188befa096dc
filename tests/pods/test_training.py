"""Trainings in two pods: what a signal, a failure and a death in one of them mean for both."""

import signal

import pytest

from unisd.rundir import RunDir, read_jsonl
from unisd.training.checkpoint import checkpoints, fault_of, step_of

pytestmark = pytest.mark.slow

ENDLESS = {"training": {"epochs": 200, "checkpointEverySteps": 10000, "gradientAccumulationSteps": 1}}
FAILING = """
import os
from unisd.failures import StageError
from unisd.training import loop
finish = loop.StepLoop.finish_step
def finish_and_fail(self, control):
    finish(self, control)
    if os.environ["RANK"] == "1":
        raise StageError("PolicyCollapsed", "as the test wished")
loop.StepLoop.finish_step = finish_and_fail
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
