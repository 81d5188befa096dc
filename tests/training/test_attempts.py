"""Attempts at one component: a later one goes on from what earlier ones left, and none touches another's."""

import shutil

import pytest

from unisd import train as training
from unisd.config.resolve import resolve
from unisd.evaluation.report import gather
from unisd.failures import StageError
from unisd.files import read_json, read_jsonl
from unisd.job import Job
from unisd.rundir import RunDir
from unisd.training.checkpoint import checkpoints, keep_newest, newest_whole, step_of

pytestmark = pytest.mark.slow

SPEC = {
    "components": [{"name": "it", "divergence": {}}],
    "training": {"checkpointEverySteps": 1, "keepCheckpoints": 9},
    "evaluation": {"everySteps": 1, "probeExamples": 3, "checkpoint": "best"},
}


@pytest.fixture
def attempt(make_run, carry_out):
    """Trains the component as an attempt does; returns its view of the directory."""
    run, directory = make_run(15, **SPEC)  # 12 rows to train on: 3 steps
    carry_out(run, directory, "prepare")

    def train(number):
        view = RunDir(directory.root, number)
        training.train(Job(run, view, resolve(run.spec)[0]))
        return view

    train.run = run
    return train


def steps(view):
    return [row["step"] for row in read_jsonl(view.train("it-1") / "metrics.jsonl")]


def files(place):
    return {path: path.stat().st_mtime_ns for path in place.rglob("*") if path.is_file()}


def cut_to(view, step):
    """Leaves of an attempt what it had left if it had been killed after a step."""
    place = view.train("it-1")
    for path in checkpoints(place):
        if step_of(path) > step:
            shutil.rmtree(path)
    shutil.rmtree(place / "adapter")
    (place / "result.json").unlink()


def test_a_later_attempt_goes_on_and_leaves_the_earlier_alone(attempt, weights, same):
    first = attempt(1)
    whole, probes = weights(first, "it-1"), read_jsonl(first.train("it-1") / "probes.jsonl")
    cut_to(first, 1)
    with (first.train("it-1") / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')  # what a killed process wrote last
    before = files(first.root / "components/it-1/1")
    second = attempt(2)
    assert files(first.root / "components/it-1/1") == before
    assert steps(second) == [1, 2, 3]
    assert [step_of(path) for path in checkpoints(second.train("it-1"))] == [2, 3]
    assert read_jsonl(second.train("it-1") / "probes.jsonl") == probes
    assert same(weights(second, "it-1"), whole)
    assert first.trained("it-1") == second.train("it-1")


def test_an_attempt_that_wrote_nothing_is_passed_over_and_the_report_shows_the_newest_result(attempt):
    first = attempt(1)
    cut_to(first, 2)
    RunDir(first.root, 2).train("it-1").mkdir(parents=True)
    third = attempt(3)
    assert steps(third) == [1, 2, 3]
    shown = gather(Job(attempt.run, RunDir(first.root, 1)))["arms"]["it-1"]
    assert shown["training"] == read_json(third.train("it-1") / "result.json")
    assert [row["step"] for row in shown["curves"]] == [1, 2, 3]


def test_the_newest_attempts_checkpoints_count_first_and_old_ones_go_as_new_ones_come(tmp_path):
    old, new = tmp_path / "1", tmp_path / "2"
    for place, step in ((old, 7), (old, 8), (new, 2), (new, 3)):
        (place / f"checkpoint-{step}").mkdir(parents=True)
    with pytest.raises(StageError, match=r"checkpoint-3 is corrupt .*checkpoint-2 .*checkpoint-8 .*checkpoint-7"):
        newest_whole([new, old])
    keep_newest([new, old], 3)
    assert [path.name for path in (*checkpoints(old), *checkpoints(new))] == [
        "checkpoint-8",
        "checkpoint-2",
        "checkpoint-3",
    ]
