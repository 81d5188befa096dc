"""The run as a whole: conditions and their times, columns, size."""

import json

import pytest
from unisd_operator.api.status import Component, Failure, Progress, Score, Status
from unisd_operator.settings import Settings
from unisd_operator.status.size import LIMIT, fitted

from tests.operator.status.lab import START, Lab, new

TWO = [{"name": "a", "preset": "ema"}, {"name": "b", "preset": "ema"}]


def test_conditions_keep_the_time_of_their_last_change() -> None:
    lab = new()
    lab.look()
    begun = lab.now
    lab.look(100)
    assert {condition.last_transition_time for condition in lab.status.conditions} == {begun}
    lab.edit(suspend=True)
    lab.look(100)
    changed = {c.type for c in lab.status.conditions if c.last_transition_time == lab.now}
    assert changed == {"Reconciling", "Suspended"}
    assert lab.condition("Ready").reason == "Suspended"
    assert {condition.observed_generation for condition in lab.status.conditions} == {2}


def test_a_failed_run_is_stalled_with_its_reason() -> None:
    lab = new().training()
    lab.pod("train", "c-1", phase="Failed", container={"exit_code": 65})
    lab.look(1)
    for name in ("Stalled", "Failed"):
        told = lab.condition(name)
        assert (told.status, told.reason) == ("True", "BadInput")
        assert "c-1: container main of pod train-c-1-1-0 ended with code 65" in told.message
    assert (lab.condition("Ready").status, lab.condition("Ready").reason) == ("False", "BadInput")
    assert lab.condition("Complete").status == "False"


def test_servers_that_lag_are_told() -> None:
    lab = new(settings=Settings(max_lag=2)).training()
    lab.answer(step=9, policyVersion={"trainer": 9, "rollout": 7})
    lab.look(1)
    assert lab.condition("WeightsStale").status == "False"
    lab.answer(step=10, policyVersion={"trainer": 10, "rollout": 7})
    lab.look(1)
    told = lab.condition("WeightsStale")
    assert (told.status, told.reason) == ("True", "Lag")
    assert told.message == "servers lag more than 2 versions behind: c-1: trainer 10, servers 7"


def test_progress_of_the_run_is_the_mean_of_its_components() -> None:
    lab = new(components=TWO, parallelism=2)
    lab.training("a-1")
    lab.answer("a-1", step=50, totalSteps=100, progressPercentage=51)
    lab.look(1)
    assert (lab.status.progress_percentage, lab.status.components_ended) == (25, "0/2")


def test_a_component_is_not_all_done_before_it_is_evaluated() -> None:
    lab = new().training()
    lab.answer(step=100, totalSteps=100, progressPercentage=100)
    lab.look(1)
    assert lab.status.progress_percentage == 99


@pytest.mark.parametrize(("metric", "best"), [("accuracy", "b 0.900"), ("gold perplexity", "a 0.100")])
def test_the_best_is_the_lowest_perplexity_or_the_highest_of_all_else(metric: str, best: str) -> None:
    lab = new(components=TWO, parallelism=2)
    lab.prepared()
    for arm, score in {"a-1": 0.1, "b-1": 0.9}.items():
        lab.end("train", arm, "{}")
        scores = [{"task": "gpqa", "metric": metric, "score": 7}, {"task": "cos_e", "metric": metric, "score": score}]
        lab.end("evaluate", arm, json.dumps({"result": {"evaluations": scores}}))
    lab.look(1)
    assert lab.status.best == best


def test_a_full_status_fits_and_loses_its_oldest_logs_first() -> None:
    lab = crowded()
    arms = lab.status.components
    size = len(lab.status.model_dump_json(by_alias=True, exclude_none=True).encode())
    assert size <= LIMIT
    kept = [arm.failure is not None and arm.failure.log_tail is not None for arm in arms]
    assert any(kept)
    assert not all(kept)
    assert kept == sorted(kept), "the first to fail is the first without its log"
    assert all(arm.failure and arm.failure.reason == "NonZeroExit" for arm in arms)


def crowded() -> Lab:
    """64 arms, each failed with a log whose characters take three bytes."""
    components = [{"name": f"c{index}", "preset": "ema"} for index in range(32)]
    lab = new(components=components, seeds=[1, 2], parallelism=64, backoffLimit=0)
    lab.prepared()
    for arm in list(lab.status.components):
        lab.start(arm.name)
        lab.log(lab.pod("train", arm.name, phase="Failed", container={"exit_code": 1}), "…" * 5000)
        lab.look(1)
    return lab


def test_metrics_are_left_out_when_there_is_no_log_to_leave_out() -> None:
    progress = Progress(step=3, metrics={f"metric_{index}": 0.123456789 for index in range(64)})
    scores = [Score(task="cos_e", metric="accuracy", score=0.5)] * 8
    failure = Failure(reason="NonZeroExit", message="m")
    arms = [
        Component(name=f"a-{i}", component="a", seed=i, progress=progress, evaluations=scores, failure=failure)
        for i in range(64)
    ]
    status = fitted(Status(start_time=START, components=arms), limit=100_000)
    assert len(status.model_dump_json(by_alias=True, exclude_none=True)) <= 100_000
    assert all(arm.progress is not None and arm.progress.step == 3 for arm in status.components)
    assert all(len(arm.evaluations) == 8 for arm in status.components)
