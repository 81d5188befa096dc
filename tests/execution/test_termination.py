"""The last words of a container: what they hold, how long they are, and that the operator can read them."""

import pytest
from unisd_operator.status.results import message, read_progress

from unisd.execution.process import Outcome, failure
from unisd.execution.termination import LIMIT, leave, result_of
from unisd.failures import StageError
from unisd.files import write_json
from unisd.job import Job
from unisd.rundir import RunDir
from unisd.stages import stages

SCORE = {"task": "cos_e", "metric": "accuracy", "score": 0.5, "low": 0.25, "high": 0.75, "items": 8}
PROGRESS = {
    "step": 3,
    "totalSteps": 12,
    "progressPercentage": 25,
    "metrics": {"loss": 0.5},
    "checkpoint": {"step": 2, "path": "components/star-1/1/train/checkpoint-2"},
    "policyVersion": {"trainer": 3, "rollout": 2},
}


@pytest.fixture
def words(tmp_path):
    """What is left of an outcome and a result."""

    def left(outcome, result, secrets=()):
        path = tmp_path / "termination-log"
        leave(path, outcome, result, secrets)
        assert path.stat().st_size <= LIMIT
        return message(path.read_text(encoding="utf-8"))

    return left


@pytest.fixture
def stage_of(make_run):
    run, directory = make_run(components=[{"name": "star", "preset": "unisd_star"}])
    found = {stage.name: stage for stage in stages(run, {})}
    return lambda name, attempt: (Job(run, RunDir(directory.root, attempt), found[name].arm), found[name])


def test_a_failure_is_told_without_secrets(words):
    told = words(failure(StageError("BadInput", "token hf_abcdefgh is refused")), {}, ("hf_abcdefgh",))
    assert told == {"failure": {"reason": "BadInput", "message": "token *** is refused"}}


def test_success_alone_is_an_empty_message(words):
    assert words(Outcome(), {}) == {}


def test_a_stopped_training_tells_its_progress_and_checkpoint(words, stage_of):
    job, stage = stage_of("train/star-1", 2)
    write_json(job.directory.stage(stage.name) / "progress.json", PROGRESS)
    told = words(failure(StageError("Interrupted", "stopped after step 3")), result_of(job, stage))
    assert told["failure"]["reason"] == "Interrupted"
    assert read_progress(told["result"]["progress"]).step == 3
    assert told["result"]["checkpoint"] == PROGRESS["checkpoint"]
    assert told["result"]["policyVersion"] == PROGRESS["policyVersion"]


def test_the_newest_attempt_that_has_something_is_told(stage_of):
    first, stage = stage_of("train/star-1", 1)
    write_json(first.directory.stage(stage.name) / "progress.json", PROGRESS)
    write_json(first.directory.train("star-1") / "result.json", {"best": {"step": 2, "score": 0.5}})
    third, _ = stage_of("train/star-1", 3)
    third.directory.stage(stage.name).mkdir(parents=True)
    assert result_of(third, stage)["progress"]["step"] == 3
    assert result_of(third, stage)["best"] == {"step": 2, "score": 0.5}


def test_an_evaluation_tells_scores_and_revisions(words, stage_of):
    job, stage = stage_of("evaluate/star-1", 1)
    assert result_of(job, stage) == {}
    revisions = {"model": "a/b@123", "rows": "456"}
    write_json(job.directory.prepared.record, {"revisions": revisions})
    write_json(job.directory.evaluate("star-1") / "evaluation.json", {"scores": [SCORE]})
    assert words(Outcome(), result_of(job, stage)) == {"result": {"revisions": revisions, "evaluations": [SCORE]}}


def test_of_too_many_scores_the_first_of_each_task_stay_and_the_rest_is_counted(words):
    tasks, metrics = (
        [f"task_{number}" for number in range(16)],
        ["accuracy", "gold perplexity", "pass@1 of 8", "pass@8 of 8"],
    )
    scores = [{**SCORE, "task": task, "metric": metric} for task in tasks for metric in metrics]
    result = words(Outcome(), {"evaluations": list(scores)})["result"]
    kept = result["evaluations"]
    assert 20 < len(kept) == len(scores) - result["evaluationsLeftOut"]
    assert [score["task"] for score in kept if score["metric"] == "accuracy"] == tasks
    assert kept[: len(metrics)] == scores[: len(metrics)], "the run's own task comes first"
    assert kept == [score for score in scores if score in kept], "in their order"
    many = [{**SCORE, "task": f"{number}"} for number in range(200)]
    result = words(Outcome(), {"evaluations": list(many)})["result"]
    assert result["evaluations"] == many[: 200 - result["evaluationsLeftOut"]]


def test_what_is_too_long_is_cut_and_stays_readable(words):
    metrics = {f"metric_{number}": 0.123456789 for number in range(200)}
    told = words(Outcome(), {"progress": {**PROGRESS, "metrics": metrics}, "evaluations": [SCORE] * 8})
    assert told["result"]["evaluations"] == [SCORE] * 8
    assert "metrics" not in told["result"]["progress"]
    told = words(failure(StageError("BadInput", "ü" * 5000)), {"progress": dict(PROGRESS)})
    assert told["failure"]["message"].startswith("ü" * 1000)
    assert told["result"]["progress"]["step"] == 3
