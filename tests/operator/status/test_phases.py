"""From a new run to its end: what is seen, and which phase it means."""

import json
from dataclasses import replace

import pytest
from unisd_operator.api.resource import read_resource

from tests.operator.status.lab import SCORES, Lab, manifest, new

TWO = [{"name": "a", "preset": "ema"}, {"name": "b", "preset": "ema"}]


def test_a_new_run_prepares_first() -> None:
    lab = new()
    status = lab.look()
    assert (status.phase, status.observed_generation, status.components_ended) == ("Preparing", 1, "0/1")
    assert [(stage.name, stage.phase) for stage in status.stages] == [("prepare", "Starting"), ("report", "Pending")]
    arm = lab.arm()
    assert (arm.phase, arm.waiting and arm.waiting.reason, arm.attempt) == ("Pending", "WaitingForStages", 1)
    assert (status.start_time, status.claim) == (lab.now, "demo")


def test_the_whole_way() -> None:
    lab = new()
    lab.training()
    assert lab.status.phase == "Running"
    assert lab.arm().phase == "Training"
    assert lab.arm().start_time == lab.now
    assert lab.arm().images == {
        "preparation": "ghcr.io/unisd/trainer:0.1.0",
        "rollout": "ghcr.io/unisd/rollout:0.1.0",
        "trainer": "ghcr.io/unisd/trainer:0.1.0",
        "evaluation": "ghcr.io/unisd/trainer:0.1.0",
    }
    assert lab.arm().rollout is not None
    lab.end(
        "train", "c-1", json.dumps({"result": {"progress": {"step": 9, "totalSteps": 9}, "checkpoint": {"step": 9}}})
    )
    lab.look(100)
    assert (lab.arm().phase, lab.arm().trained_time) == ("Evaluating", lab.now)
    assert lab.arm().progress is not None
    assert lab.arm().progress.step == 9
    assert lab.arm().checkpoint is not None
    lab.end("evaluate", "c-1", SCORES)
    lab.look(50)
    assert lab.arm().phase == "Succeeded"
    assert (lab.status.phase, lab.stage("report").phase) == ("Reporting", "Starting")
    assert lab.arm().rollout is None
    assert [score.score for score in lab.arm().evaluations] == [0.75]
    lab.job("report", succeeded=True)
    lab.look(10)
    assert (lab.status.phase, lab.status.completion_time, lab.status.best) == ("Succeeded", lab.now, "c 0.750")
    assert (lab.status.components_ended, lab.status.progress_percentage) == ("1/1", 100)


@pytest.mark.parametrize("preset", ["contrastive", "agreement_tok_induction", "ssd"])
def test_texts_are_written_before_the_components_that_read_them_and_only_those_wait(preset: str) -> None:
    lab = new(components=[{"name": "c", "preset": preset}, {"name": "d", "preset": "ema"}], parallelism=2)
    lab.prepared()
    assert [stage.name for stage in lab.status.stages] == ["prepare", "contexts", "report"]
    assert lab.stage("contexts").phase == "Starting"
    waiting = lab.arm("c-1").waiting
    assert waiting is not None
    assert (waiting.reason, waiting.message) == ("WaitingForStages", "waits for contexts")
    assert lab.arm("d-1").phase == "Starting"
    lab.job("contexts", succeeded=True)
    lab.look(5)
    assert lab.arm("c-1").phase == "Starting"


def test_every_seed_is_an_arm_and_parallelism_counts_them_in_the_order_of_the_manifest() -> None:
    lab = new(components=TWO, seeds=[7, 8], parallelism=2)
    lab.prepared()
    phases = {arm.name: arm.phase for arm in lab.status.components}
    assert phases == {"a-7": "Starting", "a-8": "Starting", "b-7": "Pending", "b-8": "Pending"}
    waiting = lab.arm("b-7").waiting
    assert waiting is not None
    assert waiting.reason == "WaitingForSlot"
    lab.edit(parallelism=3)
    lab.look(1)
    assert [arm.phase for arm in lab.status.components] == ["Starting", "Starting", "Starting", "Pending"]
    lab.edit(parallelism=1)
    lab.look(1)
    assert [arm.phase for arm in lab.status.components] == ["Starting", "Starting", "Starting", "Pending"]


def test_a_component_that_ends_makes_room_at_once() -> None:
    lab = new(components=TWO)
    lab.evaluating("a-1")
    assert lab.arm("b-1").phase == "Pending"
    lab.end("evaluate", "a-1", SCORES)
    lab.look(1)
    assert [arm.phase for arm in lab.status.components] == ["Succeeded", "Starting"]


def test_training_needs_every_pod_of_the_job_and_a_node_for_every_server() -> None:
    lab = new(trainer={"numNodes": 2}, rollout={"replicas": 2})
    lab.prepared()
    lab.start()
    lab.look(1)
    assert lab.arm().phase == "Starting"
    lab.pod("train", "c-1", index=1)
    lab.pod("rollout", "c-1", index=1, phase="Pending", scheduled=False, scheduler_message="0/3 nodes: no GPU")
    lab.look(1)
    waiting = lab.arm().waiting
    assert waiting is not None
    assert (lab.arm().phase, waiting.reason) == ("Starting", "Unschedulable")
    assert waiting.message == "pod rollout-c-1-1-1: 0/3 nodes: no GPU"
    lab.pod("rollout", "c-1", index=1, phase="Pending")
    lab.look(1)
    assert lab.arm().phase == "Training"


@pytest.mark.parametrize(
    ("preset", "engine", "servers_at_training"),
    [("ema", "vllm", True), ("ema", "transformers", False), ("sft", "vllm", False)],
)
def test_servers_are_waited_for_where_training_samples_from_them(
    preset: str, engine: str, servers_at_training: bool
) -> None:
    lab = new(components=[{"name": "c", "preset": preset}], rollout={"engine": engine})
    lab.prepared()
    lab.job("train", "c-1")
    lab.pod("train", "c-1")
    lab.look(1)
    assert lab.arm().phase == ("Starting" if servers_at_training else "Training")


def test_the_base_model_is_evaluated_without_training() -> None:
    lab = new(components=[{"name": "c", "preset": "raw"}])
    lab.prepared()
    assert (lab.arm().phase, lab.arm().trained_time) == ("Evaluating", None)
    lab.end("evaluate", "c-1", SCORES)
    lab.look(1)
    assert lab.arm().phase == "Succeeded"


def test_what_an_operator_slept_through_is_caught_up_with_in_one_look() -> None:
    lab = new()
    lab.prepared()
    lab.start()
    lab.end("train", "c-1", "{}")
    lab.end("evaluate", "c-1", SCORES)
    lab.look(9000)
    assert (lab.arm().phase, lab.arm().trained_time, lab.stage("report").phase) == ("Succeeded", lab.now, "Starting")


def test_scores_that_nobody_read_are_read_again_by_a_job() -> None:
    lab = new().evaluating()
    lab.job("evaluate", "c-1", succeeded=True)
    lab.look(1)
    assert lab.arm().phase == "Evaluating", "the pod is still seen running: its message may come"
    lab.remove("c-1", "evaluate")
    lab.job("evaluate", "c-1", succeeded=True)
    lab.look(1)
    waiting = lab.arm().waiting
    assert waiting is not None
    assert (lab.arm().phase, waiting.reason) == ("Evaluating", "ResultsUnread")
    lab.job("results", "c-1")
    lab.pod("results", "c-1")
    lab.look(1)
    assert lab.arm().phase == "Evaluating"
    lab.end("results", "c-1", SCORES)
    lab.look(1)
    assert lab.arm().phase == "Succeeded"


def test_a_job_that_reads_scores_says_what_holds_it_up_and_is_not_waited_for_for_ever() -> None:
    lab = new(preRunningDeadlineSeconds=600).evaluating()
    lab.remove("c-1", "evaluate")
    lab.job("evaluate", "c-1", succeeded=True)
    lab.look(1)
    lab.job("results", "c-1", refusal="pods is forbidden: exceeded quota: small")
    lab.look(1)
    waiting = lab.arm().waiting
    assert waiting is not None
    assert (waiting.reason, "exceeded quota: small" in waiting.message) == ("ResultsUnread", True)
    lab.look(598)
    assert (lab.arm().phase, lab.arm().attempt) == ("Evaluating", 1)
    lab.look(1)
    failed = lab.arm().failure
    assert failed is not None
    assert (lab.arm().phase, lab.arm().attempt, failed.reason) == ("Pending", 2, "DeadlineExceeded")
    assert "does not start: pods is forbidden: exceeded quota: small" in failed.message


@pytest.mark.parametrize(
    "message",
    [
        *("", "not JSON", "[]", '{"result": 3}', "[" * 4096),
        '{"result": {"evaluations": [{"task": 1}]}}',
        '{"result": {"evaluations": [{"task": "\\ud800", "metric": "m", "score": 1}]}}',
        '{"result": {"evaluations": [{"task": "t", "metric": "m", "score": 1, "items": 1' + "0" * 400 + "}]}}",
    ],
)
def test_no_component_succeeds_without_a_score(message: str) -> None:
    lab = new(backoffLimit=0).evaluating()
    lab.end("evaluate", "c-1", message)
    lab.look(1)
    assert lab.arm().phase in ("Evaluating", "Failed")
    lab.end("results", "c-1", message)
    lab.look(1)
    failure = lab.arm().failure
    assert failure is not None
    assert (lab.arm().phase, failure.reason) == ("Failed", "NonZeroExit")
    assert failure.message.startswith("its evaluation ended well but left no scores")


@pytest.mark.parametrize(("told", "scores", "left_out"), [(5, 2, 5), (None, 2, None), (5, 70, 11), ("x", 1, None)])
def test_scores_for_which_there_was_no_room_are_counted(told: object, scores: int, left_out: int | None) -> None:
    lab = new().evaluating()
    found = [{"task": "cos_e", "metric": f"m{number}", "score": 0.5} for number in range(scores)]
    lab.end("evaluate", "c-1", json.dumps({"result": {"evaluations": found, "evaluationsLeftOut": told}}))
    lab.look(1)
    assert lab.arm().phase == "Succeeded"
    assert len(lab.arm().evaluations) == min(scores, 64)
    assert lab.arm().evaluations_left_out == left_out


def test_revisions_come_from_preparation() -> None:
    lab = new()
    lab.look()
    lab.end("prepare", None, json.dumps({"result": {"revisions": {"model": "abc", "task": "def"}}}))
    lab.look(1)
    assert lab.arm().revisions == {"model": "abc", "task": "def"}
    lab.remove(None)
    lab.look(1)
    assert lab.arm().revisions == {"model": "abc", "task": "def"}


def test_a_deleted_run_stays_as_it_is() -> None:
    lab = new().training()
    before = lab.status
    lab.run = replace(lab.run, deleting=True)
    lab.remove("c-1")
    assert lab.look(10_000) == before


def reported(lab: Lab) -> None:
    lab.job("report", succeeded=True)
    lab.look(1)


@pytest.mark.parametrize(
    ("policy", "phase"),
    [
        ({"type": "All"}, "Failed"),
        ({"type": "Any"}, "Succeeded"),
        ({"type": "AtLeast", "count": 1}, "Succeeded"),
        ({"type": "AtLeast", "count": 2}, "Failed"),
    ],
)
def test_success_policies(policy: dict[str, object], phase: str) -> None:
    lab = new(components=TWO, parallelism=2, successPolicy=policy)
    lab.evaluating("a-1")
    lab.start("b-1")
    lab.pod("train", "b-1", phase="Failed", container={"exit_code": 65})
    lab.look(1)
    assert lab.arm("b-1").phase == "Failed"
    assert lab.status.phase == "Running", "the other component goes on"
    lab.end("evaluate", "a-1", SCORES)
    lab.look(1)
    assert lab.status.phase == "Reporting"
    reported(lab)
    assert (lab.status.phase, lab.status.components_ended) == (phase, "1/2")
    assert lab.status.reason == ("BadInput" if phase == "Failed" else "")


def test_fail_fast_ends_the_others() -> None:
    lab = new(components=TWO, parallelism=2, failurePolicy="FailFast")
    lab.training("a-1")
    lab.start("b-1")
    lab.look(1)
    lab.pod("train", "b-1", phase="Failed", container={"exit_code": 65})
    lab.look(1)
    assert [arm.phase for arm in lab.status.components] == ["Failed", "Failed"]
    assert [arm.failure and arm.failure.reason for arm in lab.status.components] == ["FailFast", "BadInput"]
    assert (lab.status.phase, lab.status.reason) == ("Failed", "BadInput")
    assert [stage.name for stage in lab.status.stages] == ["prepare"], "there is nothing to report"


def test_a_stage_that_fails_fails_what_needs_it() -> None:
    lab = new(components=[{"name": "c", "preset": "contrastive"}, {"name": "d", "preset": "ema"}], parallelism=2)
    lab.prepared()
    lab.job("contexts")
    lab.pod("contexts", phase="Failed", container={"exit_code": 65})
    lab.look(1)
    failure = lab.arm("c-1").failure
    assert failure is not None
    assert (lab.arm("c-1").phase, failure.reason) == ("Failed", "BadInput")
    assert failure.message.startswith("stage contexts failed: ")
    assert lab.arm("d-1").phase == "Starting"


def test_a_preparation_that_fails_ends_the_run() -> None:
    lab = new(components=[{"name": "c", "preset": "contrastive"}])
    lab.look()
    lab.job("prepare")
    lab.pod("prepare", phase="Failed", container={"exit_code": 65})
    lab.look(1)
    assert (lab.status.phase, lab.status.reason, lab.arm().phase) == ("Failed", "BadInput", "Failed")
    assert [stage.name for stage in lab.status.stages] == ["prepare"]


def test_a_report_that_fails_fails_the_run() -> None:
    lab = new(backoffLimit=0).evaluating()
    lab.end("evaluate", "c-1", SCORES)
    lab.look(1)
    lab.job("report")
    lab.pod("report", phase="Failed", container={"exit_code": 1})
    lab.look(1)
    assert (lab.status.phase, lab.status.reason, lab.status.components_ended) == ("Failed", "NonZeroExit", "1/1")


def test_an_invalid_run_tells_everything_at_once_and_stays_as_it_was() -> None:
    lab = Lab(read_resource(manifest({"components": [{"name": "a"}, {"name": "a"}], "seeds": [1, 1]})))
    lab.look()
    assert (lab.status.phase, lab.status.reason) == ("Invalid", "InvalidSpec")
    assert lab.status.observed_generation == 1
    message = lab.condition("Stalled").message
    assert "spec.seeds" in message
    assert "spec.components[1].name" in message
    assert lab.due() is None


def test_the_best_component_is_the_best_over_its_seeds() -> None:
    lab = new(components=TWO, seeds=[1, 2], parallelism=4)
    lab.prepared()
    for arm, score in {"a-1": 0.9, "a-2": 0.1, "b-1": 0.6, "b-2": 0.7}.items():
        lab.end("train", arm, "{}")
        text = {"result": {"evaluations": [{"task": "cos_e", "metric": "accuracy", "score": score}]}}
        lab.end("evaluate", arm, json.dumps(text))
    lab.look(1)
    assert lab.status.best == "b 0.650"
