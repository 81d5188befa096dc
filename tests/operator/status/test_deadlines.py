"""Deadlines, suspension, TTL and what follows from the clock alone."""

from typing import Any

import pytest

from tests.operator.status.lab import SCORES, Lab, new


def answered(lab: Lab, step: int, after: float, total: int = 100) -> None:
    lab.seconds += after
    lab.answer(step=step, totalSteps=total, progressPercentage=step)
    lab.look()


def test_progress_is_taken_from_answers_and_its_time_is_the_last_move_of_the_step() -> None:
    lab = new().training()
    metrics = {"loss": 0.5, "clip_bound": 0.1}
    lab.answer(
        step=3,
        totalSteps=50,
        progressPercentage=6,
        estimatedRemainingSeconds=90,
        metrics={**metrics, "bad": float("nan"), "endless": 10**400},
        lastUpdatedTime="2020-01-01T00:00:00+00:00",
        checkpoint={"step": 2, "time": "2026-01-01T00:00:00+00:00", "path": "runs/0000/c-1/1"},
        policyVersion={"trainer": 3, "rollout": 2},
    )
    lab.look()
    progress = lab.arm().progress
    assert progress is not None
    assert (progress.step, progress.total_steps, progress.estimated_remaining_seconds) == (3, 50, 90)
    assert (progress.metrics, progress.last_updated_time) == (metrics, lab.now)
    moved = lab.now
    answered(lab, 3, 60)
    progress = lab.arm().progress
    assert progress is not None
    assert progress.last_updated_time == moved
    checkpoint, versions = lab.arm().checkpoint, lab.arm().policy_version
    assert checkpoint is not None
    assert versions is not None
    assert (checkpoint.step, versions.trainer, versions.rollout) == (2, 3, 2)
    assert lab.status.progress_percentage == 3


@pytest.mark.parametrize(
    "values", [{"step": "many"}, {"metrics": 3}, {}, {"step": -1.5}, {"progress": []}, {"step": 10**400}]
)
def test_an_answer_that_cannot_be_read_changes_nothing(values: dict[str, Any]) -> None:
    lab = new().training()
    answered(lab, 3, 1)
    before = lab.arm().progress
    lab.answer(**values)
    lab.look(1)
    assert lab.arm().progress == before


def test_no_progress_is_a_step_that_stands_still_in_answers() -> None:
    lab = new(progressDeadlineSeconds=100).training()
    answered(lab, 1, 10)
    answered(lab, 1, 99)
    assert lab.arm().phase == "Training"
    answered(lab, 1, 1)
    failure = lab.arm().failure
    assert failure is not None
    assert (lab.arm().phase, failure.reason, lab.arm().failed_attempts) == ("Pending", "NoProgress", 1)
    assert "step 1 of 100" in failure.message


def test_a_step_that_stands_still_is_looked_at_although_its_answers_are_all_the_same() -> None:
    lab = new(progressDeadlineSeconds=100).training()
    answered(lab, 1, 10)
    assert lab.due() == 115
    lab.seconds += 110
    lab.answer(step=1, totalSteps=100, progressPercentage=1)
    lab.look(5)
    assert lab.arm().phase == "Pending"


def test_no_answer_is_no_evidence() -> None:
    lab = new(progressDeadlineSeconds=100).training()
    answered(lab, 5, 10)
    lab.look(5000)
    assert lab.arm().phase == "Training", "the last answer is old: it says nothing about now"
    lab.answer(error="connection refused")
    lab.look(5000)
    assert lab.arm().phase == "Training"
    told = lab.condition("ProgressUnavailable")
    assert (told.status, told.reason) == ("True", "NoAnswer")
    assert "c-1: connection refused" in told.message
    answered(lab, 6, 5000)
    assert lab.arm().phase == "Training"
    assert lab.condition("ProgressUnavailable").status == "False"


def test_the_clock_of_progress_begins_with_the_first_step() -> None:
    lab = new(progressDeadlineSeconds=100).training()
    answered(lab, 0, 10)
    answered(lab, 0, 1000)
    assert lab.arm().phase == "Training"
    answered(lab, 1, 1000)
    answered(lab, 1, 100)
    assert lab.arm().phase == "Pending"


def test_another_operator_goes_on_with_the_clock_that_it_finds() -> None:
    lab = new(progressDeadlineSeconds=100).training()
    answered(lab, 5, 10)
    fresh = Lab(lab.run, lab.settings, lab.observed, lab.seconds)
    answered(fresh, 5, 99)
    assert fresh.arm().phase == "Training"
    answered(fresh, 5, 1)
    assert fresh.arm().phase == "Pending"


def in_its_second_attempt() -> Lab:
    """A training whose first attempt failed after step 50."""
    lab = new(progressDeadlineSeconds=100).training()
    answered(lab, 50, 10)
    lab.pod("train", "c-1", phase="Failed", container={"exit_code": 1})
    lab.look(1)
    lab.remove("c-1")
    lab.look(10)
    lab.start(attempt=2)
    lab.look(1)
    return lab


def test_a_new_attempt_has_a_clock_of_its_own_and_may_begin_below_the_last_step() -> None:
    lab = in_its_second_attempt()
    answered(lab, 40, 1000)
    answered(lab, 40, 1000)
    assert lab.arm().phase == "Training", "it resumed from step 40 and has not done a step yet"
    answered(lab, 41, 10)
    answered(lab, 41, 100)
    assert lab.arm().phase == "Pending"


def test_an_answer_of_an_older_attempt_is_not_this_ones() -> None:
    lab = in_its_second_attempt()
    progress = lab.arm().progress
    assert progress is not None
    assert progress.last_updated_time is None


# -- activeDeadlineSeconds


def test_a_component_may_be_at_work_for_so_long() -> None:
    lab = new(activeDeadlineSeconds=100).training()
    assert lab.due() == 90
    lab.look(89)
    assert lab.arm().phase == "Training"
    lab.look(1)
    failure = lab.arm().failure
    assert failure is not None
    assert (lab.arm().phase, failure.reason) == ("Failed", "DeadlineExceeded"), "it is not tried again"


def test_attempts_share_one_deadline_and_pauses_do_not_count() -> None:
    lab = new(activeDeadlineSeconds=100).training()
    lab.look(50)
    lab.pod("train", "c-1", phase="Failed", container={"exit_code": 1})
    lab.look(0)
    assert lab.arm().active_seconds == 60
    lab.remove("c-1")
    lab.look(3000)
    lab.start(attempt=2)
    lab.look(20)
    lab.edit(suspend=True)
    lab.look(0)
    assert lab.arm().active_seconds == 80
    lab.remove("c-1")
    lab.look(9000)
    lab.edit(suspend=False)
    lab.look(0)
    lab.start(attempt=2)
    lab.look(19)
    assert lab.arm().phase == "Training"
    lab.look(1)
    assert lab.arm().phase == "Failed"


def test_a_deadline_may_be_moved_while_a_run_lives() -> None:
    lab = new(activeDeadlineSeconds=100).training()
    lab.edit(activeDeadlineSeconds=1000)
    lab.look(200)
    assert lab.arm().phase == "Training"
    lab.edit(activeDeadlineSeconds=150)
    lab.look(0)
    assert lab.arm().phase == "Failed"


# -- suspension


def test_a_suspended_run_holds_nothing_and_goes_on_under_the_same_attempt() -> None:
    lab = new(components=[{"name": "a", "preset": "ema"}, {"name": "b", "preset": "ema"}])
    lab.training("a-1")
    lab.edit(suspend=True)
    lab.look(1)
    assert lab.status.phase == "Suspended"
    assert [arm.phase for arm in lab.status.components] == ["Suspended", "Suspended"]
    assert (lab.stage("prepare").phase, lab.stage("report").phase) == ("Succeeded", "Suspended")
    assert lab.condition("Suspended").message == "spec.suspend is true; 2 pods have not ended yet"
    lab.edit(suspend=False)
    lab.look(1)
    waiting = lab.arm("a-1").waiting
    assert waiting is not None
    assert (lab.arm("a-1").phase, waiting.reason) == ("Pending", "WaitingForPods")
    assert lab.arm("b-1").phase == "Starting", "a component that can start takes the slot"
    lab.edit(suspend=True)
    lab.look(1)
    lab.remove("a-1")
    lab.look(1)
    assert lab.condition("Suspended").message == "spec.suspend is true; no pod is left"
    lab.edit(suspend=False)
    lab.look(1)
    assert (lab.arm("a-1").phase, lab.arm("a-1").attempt, lab.arm("b-1").phase) == ("Starting", 1, "Pending")


def test_what_a_trainer_says_as_it_stops_is_kept() -> None:
    lab = new().training()
    lab.edit(suspend=True)
    lab.look(1)
    stopped = {"exit_code": 75, "terminated_message": '{"result": {"checkpoint": {"step": 7}}}'}
    lab.pod("train", "c-1", phase="Failed", container=stopped)
    lab.job("train", "c-1", failed=True, ended=lab.now)
    lab.look(1)
    assert (lab.arm().phase, lab.arm().failure, lab.arm().failed_attempts) == ("Suspended", None, 0)
    checkpoint = lab.arm().checkpoint
    assert checkpoint is not None
    assert checkpoint.step == 7


def test_a_training_that_ends_as_the_run_is_suspended_has_ended() -> None:
    lab = new().training()
    lab.end("train", "c-1", "{}")
    lab.edit(suspend=True)
    lab.look(1)
    assert (lab.arm().phase, lab.arm().trained_time) == ("Suspended", lab.now)
    lab.remove("c-1")
    lab.edit(suspend=False)
    lab.look(1)
    assert lab.arm().phase == "Evaluating"


def test_a_run_that_is_created_suspended_begins_nothing() -> None:
    lab = new(suspend=True)
    lab.look()
    assert (lab.status.phase, lab.stage().phase, lab.arm().phase) == ("Suspended", "Suspended", "Suspended")
    lab.edit(suspend=False)
    lab.look(1)
    assert (lab.stage().phase, lab.stage().attempt) == ("Starting", 1)


def test_a_pod_of_a_lost_node_keeps_its_attempt_for_itself() -> None:
    lab = new().training()
    lab.edit(suspend=True)
    lab.pod("train", "c-1", deleting_since=lab.now, grace_seconds=30)
    lab.look(1)
    assert lab.arm().attempt == 1
    lab.look(60)
    assert (lab.arm().phase, lab.arm().attempt) == ("Suspended", 2)


def test_a_finished_run_cannot_be_suspended() -> None:
    lab = finished()
    lab.edit(suspend=True)
    lab.look(1)
    assert (lab.status.phase, lab.condition("Complete").status) == ("Succeeded", "True")
    assert lab.status.observed_generation == lab.run.generation


# -- TTL


def finished(**spec: Any) -> Lab:
    lab = new(**spec).evaluating()
    lab.end("evaluate", "c-1", SCORES)
    lab.look(1)
    lab.job("report", succeeded=True)
    lab.look(1)
    assert lab.status.phase == "Succeeded"
    return lab


def test_children_expire_and_stay_expired_and_the_run_never_runs_again() -> None:
    lab = finished(ttlSecondsAfterFinished=100)
    assert lab.due() == 100
    lab.look(99)
    assert not lab.status.children_expired
    lab.look(1)
    assert lab.status.children_expired
    assert lab.due() is None
    lab.remove("c-1")
    lab.remove(None)
    before = lab.status
    lab.look(100_000)
    assert lab.status == before
    lab.edit(ttlSecondsAfterFinished=1_000_000)
    lab.look(1)
    assert lab.status.children_expired


def test_without_ttl_children_are_kept() -> None:
    lab = finished()
    assert lab.due() is None
    lab.look(10_000_000)
    assert not lab.status.children_expired


# -- GPU time


def test_gpu_time_counts_every_pod_while_it_runs() -> None:
    lab = new(trainer={"numProcPerNode": 2})
    lab.prepared()
    lab.job("train", "c-1")
    lab.deployment()
    lab.pod("train", "c-1", gpus=2)
    lab.pod("rollout", "c-1", gpus=1)
    lab.look(100)
    assert lab.arm().gpu_seconds == 300.0
    lab.look(30)
    assert lab.arm().gpu_seconds == 300.0, "less than a minute is not worth a write"
    lab.look(30)
    assert lab.arm().gpu_seconds == 480.0
    ended = {"exit_code": 1, "ended": lab.now}
    lab.pod("train", "c-1", gpus=2, phase="Failed", container=ended, started=lab.now)
    lab.look(10)
    assert lab.arm().gpu_seconds == 490.0
    lab.remove("c-1")
    lab.look(1000)
    assert lab.arm().gpu_seconds == 490.0
