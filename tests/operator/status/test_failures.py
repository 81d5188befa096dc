"""Every failure reason from what the API shows of pods, Jobs and logs; and what follows it."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from unisd_operator.api.status import Failure, FailureReason
from unisd_operator.log_text import end_of

from tests.operator.status.lab import Lab, new

LOGS = Path(__file__).parent / "logs"


def waits(reason: str, message: str = "said so") -> dict[str, Any]:
    return {"phase": "Pending", "container": {"waiting_reason": reason, "waiting_message": message}}


def exits(code: int, reason: str = "Error", message: str = "") -> dict[str, Any]:
    ended = {"exit_code": code, "terminated_reason": reason, "terminated_message": message}
    return {"phase": "Failed", "container": ended}


def tells(reason: str, code: int = 1) -> dict[str, Any]:
    return exits(code, message=json.dumps({"failure": {"reason": reason, "message": f"{reason} told by the trainer"}}))


# What is seen of the trainer's pod → the reason, and whether it is tried again and counts.
TRAINER: list[tuple[str, dict[str, Any], str, bool, bool]] = [
    ("ImagePullBackOff", waits("ImagePullBackOff", 'Back-off pulling image "x"'), "ImagePullBackOff", True, True),
    ("ErrImageNeverPull", waits("ErrImageNeverPull"), "ImagePullBackOff", True, True),
    (
        "CreateContainerConfigError",
        waits("CreateContainerConfigError", 'secret "hf" not found'),
        "ConfigError",
        True,
        True,
    ),
    ("InvalidImageName", waits("InvalidImageName"), "ConfigError", True, True),
    ("RunContainerError", waits("RunContainerError"), "ConfigError", True, True),
    ("command not found", exits(128, "StartError", 'exec: "unisd": not found'), "ConfigError", True, True),
    ("OOMKilled", exits(137, "OOMKilled"), "OOMKilled", True, True),
    ("preempted", {"disruption_reason": "PreemptionByScheduler"}, "Preempted", True, False),
    ("drained", {"disruption_reason": "EvictionByEvictionAPI"}, "Evicted", True, False),
    ("node pressure", {"phase": "Failed", "reason": "Evicted", "message": "low on memory"}, "Evicted", True, False),
    ("kubelet refuses", {"phase": "Failed", "reason": "UnexpectedAdmissionError"}, "Evicted", True, False),
    ("taint", {"disruption_reason": "DeletionByTaintManager"}, "NodeLost", True, False),
    ("node object gone", {"disruption_reason": "DeletionByPodGC"}, "NodeLost", True, False),
    ("node shut down", {"phase": "Failed", "reason": "Shutdown"}, "NodeLost", True, False),
    (
        "scratch is full",
        {
            "phase": "Failed",
            "reason": "Evicted",
            "message": 'Usage of EmptyDir volume "scratch" exceeds the limit "20Gi". ',
        },
        "StorageFull",
        True,
        True,
    ),
    ("told to stop", exits(75), "Evicted", True, False),
    ("told StorageFull", tells("StorageFull", 69), "StorageFull", True, True),
    ("told CheckpointCorrupt", tells("CheckpointCorrupt", 68), "CheckpointCorrupt", False, True),
    ("told PolicyDiverged", tells("PolicyDiverged"), "PolicyDiverged", True, True),
    ("told PolicyCollapsed", tells("PolicyCollapsed", 66), "PolicyCollapsed", False, True),
    ("told NonFinite", tells("NonFinite", 67), "NonFinite", False, True),
    ("told BadInput", tells("BadInput", 65), "BadInput", False, True),
    ("told RolloutCrash", tells("RolloutCrash"), "RolloutCrash", True, True),
    ("told Busy", tells("Busy", 70), "NonZeroExit", True, True),
    ("told an unknown word", tells("Grumpy"), "NonZeroExit", True, True),
    ("code of PolicyCollapsed", exits(66), "PolicyCollapsed", False, True),
    ("code of StorageFull", exits(69), "StorageFull", True, True),
    ("code 1", exits(1), "NonZeroExit", True, True),
    ("code 2", exits(2), "NonZeroExit", True, True),
    ("killed", exits(137), "NonZeroExit", True, True),
]


@pytest.mark.parametrize(
    ("seen", "reason", "again", "counts"), [row[1:] for row in TRAINER], ids=[r[0] for r in TRAINER]
)
def test_reasons_of_a_trainer(seen: dict[str, Any], reason: str, again: bool, counts: bool) -> None:
    lab = new().training()
    pod = lab.pod("train", "c-1", **seen)
    lab.log(pod, "the end of the log")
    lab.look(1)
    arm, failure = lab.arm(), failure_of(lab)
    assert (failure.reason, failure.pod, failure.node, failure.attempt) == (reason, pod, "n1", 1)
    assert failure.message
    assert failure.log_tail == ("the end of the log" if "exit_code" in seen.get("container", {}) else None)
    assert (arm.phase, arm.attempt, arm.failed_attempts) == ("Pending" if again else "Failed", 1 + again, int(counts))
    assert arm.rollout is None
    assert arm.admitted_time is None
    waiting = arm.waiting.reason if arm.waiting else None
    assert waiting == ("BackOff" if again else None)


def failure_of(lab: Lab, arm: str = "c-1") -> Failure:
    failure = lab.arm(arm).failure
    assert failure is not None
    return failure


def test_every_reason_is_derived_somewhere_in_these_tests() -> None:
    here = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert [reason for reason in get_args(FailureReason) if f'"{reason}"' not in here] == []


@pytest.mark.parametrize("role", ["prepare", "report"])
def test_stages_fail_alike(role: str) -> None:
    lab = new(backoffLimit=0)
    if role == "prepare":
        lab.look()
    else:
        lab.evaluating()
        lab.end(
            "evaluate", "c-1", json.dumps({"result": {"evaluations": [{"task": "cos_e", "metric": "a", "score": 1}]}})
        )
        lab.look(1)
    lab.job(role)
    lab.pod(role, **waits("ImagePullBackOff"))
    lab.look(1)
    failure = lab.stage(role).failure
    assert failure is not None
    assert (lab.stage(role).phase, failure.reason) == ("Failed", "ImagePullBackOff")


def test_the_first_pull_error_is_not_a_failure_yet() -> None:
    lab = new()
    lab.prepared()
    lab.job("train", "c-1")
    lab.pod("train", "c-1", **waits("ErrImagePull"))
    lab.look(1)
    assert (lab.arm().phase, lab.arm().failure) == ("Starting", None)


def crashes(reason: str = "Error", code: int = 1, restarts: int = 2) -> dict[str, Any]:
    ended = {"exit_code": code, "terminated_reason": reason, "restarts": restarts}
    return {"container": {"waiting_reason": "CrashLoopBackOff", **ended}}


def test_a_server_that_keeps_ending_tells_its_own_last_lines() -> None:
    lab = new().training()
    pod = lab.pod("rollout", "c-1", **crashes())
    kept = end_of((LOGS / "vllm_too_long.log").read_text())
    lab.log(pod, kept)
    lab.look(1)
    failure = failure_of(lab)
    assert (failure.reason, failure.container, failure.exit_code) == ("RolloutCrash", "main", 1)
    assert "2.86 GiB KV cache is needed" in failure.message, "the cause, not the traceback that points to it"
    assert failure.log_tail == kept


def test_a_server_that_is_killed_for_memory_says_so() -> None:
    lab = new().training()
    lab.pod("rollout", "c-1", **crashes("OOMKilled", 137))
    lab.look(1)
    assert failure_of(lab).reason == "OOMKilled"


def test_a_server_that_ends_once_or_is_replaced_is_no_failure() -> None:
    lab = new().training()
    lab.pod("rollout", "c-1", container={"running": True, "exit_code": 1, "restarts": 1})
    lab.look(1)
    lab.pod("rollout", "c-1", disruption_reason="EvictionByEvictionAPI", phase="Failed", reason="Evicted")
    lab.pod("rollout", "c-1", index=1, phase="Pending", scheduled=False, scheduler_message="0/3 nodes")
    lab.look(10)
    assert (lab.arm().phase, lab.arm().failure) == ("Training", None)


def test_a_grader_that_cannot_start_is_told_by_the_evaluation_that_waits_for_it() -> None:
    lab = new(task={"name": "mbpp"}).training()
    lab.pod("grader", **waits("ImagePullBackOff"))
    lab.look(1)
    assert lab.arm().phase == "Training", "training asks no grader"
    lab.end("train", "c-1", "{}")
    lab.look(1)
    assert (failure_of(lab).reason, failure_of(lab).pod) == ("ImagePullBackOff", "grader-None-1-0")


@pytest.mark.parametrize(
    ("log", "reason", "line"),
    [
        ("cuda_illegal_access", "CudaError", "CUDA error: an illegal memory access was encountered"),
        ("cuda_out_of_memory", "CudaError", "CUDA out of memory. Tried to allocate 2.32 GiB"),
        ("cuda_no_device", "CudaError", "No CUDA GPUs are available"),
        ("cuda_ecc", "CudaError", "uncorrectable ECC error encountered"),
        ("cublas", "CudaError", "CUBLAS_STATUS_EXECUTION_FAILED"),
        ("nccl_timeout", "NcclError", "Watchdog caught collective operation timeout"),
        ("nccl_connection", "NcclError", "unhandled system error"),
        ("nccl_remote", "NcclError", "remote process exited or there was a network error"),
        ("rendezvous", "NcclError", "The client socket has timed out"),
        ("gloo", "NcclError", "Gloo connectFullMesh failed"),
        ("disk_full", "StorageFull", "No space left on device"),
        ("plain_traceback", "NonZeroExit", "ended with code 1"),
    ],
)
@pytest.mark.parametrize(
    "told", ["", json.dumps({"failure": {"reason": "NonZeroExit", "message": "ended with code 1"}})]
)
def test_logs_name_what_the_exit_code_does_not(log: str, reason: str, line: str, told: str) -> None:
    lab = new().training()
    text = (LOGS / f"{log}.log").read_text()
    lab.log(lab.pod("train", "c-1", **exits(1, message=told)), text)
    lab.look(1)
    assert (failure_of(lab).reason, failure_of(lab).log_tail) == (reason, text[-4096:])
    assert line in failure_of(lab).message


def test_a_cause_that_was_told_is_not_told_twice() -> None:
    lab = new().training()
    log = (LOGS / "cuda_out_of_memory.log").read_text()
    told = json.dumps({"failure": {"reason": "NonZeroExit", "message": f"RuntimeError: {log.splitlines()[-1]}"}})
    lab.log(lab.pod("train", "c-1", **exits(1, message=told)), log)
    lab.look(1)
    assert failure_of(lab).message.count("CUDA out of memory") == 1


def test_the_cause_is_told_not_its_consequences() -> None:
    lab = new(trainer={"numNodes": 3})
    lab.prepared()
    lab.start()
    for index, (code, reason) in enumerate([(1, "Error"), (137, "OOMKilled"), (1, "Error")]):
        ended = {"exit_code": code, "terminated_reason": reason, "ended": lab.now}
        lab.seconds += 1
        lab.log(lab.pod("train", "c-1", index=index, phase="Failed", container=ended), "NCCL error: remote")
    lab.look(1)
    assert (failure_of(lab).reason, failure_of(lab).pod) == ("OOMKilled", "train-c-1-1-1")


def test_of_equals_the_first_in_time_is_told() -> None:
    lab = new(trainer={"numNodes": 2})
    lab.prepared()
    lab.start()
    late, early = lab.now, lab.now.replace(year=2025)
    lab.pod("train", "c-1", index=0, phase="Failed", container={"exit_code": 1, "ended": late})
    lab.pod("train", "c-1", index=1, phase="Failed", container={"exit_code": 1, "ended": early})
    lab.look(1)
    assert failure_of(lab).pod == "train-c-1-1-1"


def test_a_pod_that_outlives_its_grace_is_lost_with_its_node() -> None:
    lab = new().training()
    lab.pod("train", "c-1", deleting_since=lab.now, grace_seconds=60)
    lab.look(89)
    assert lab.arm().phase == "Training"
    lab.look(1)
    assert (failure_of(lab).reason, lab.arm().failed_attempts) == ("NodeLost", 0)


def test_a_job_whose_pods_were_deleted_does_not_count() -> None:
    lab = new().training()
    lab.job("train", "c-1", failed=True, message="Job has reached the specified backoff limit", ended=lab.now)
    lab.look(1)
    assert lab.arm().phase == "Training", "the pod's own end may not have been seen yet"
    lab.remove("c-1", "train")
    lab.job("train", "c-1", failed=True, message="Job has reached the specified backoff limit", ended=lab.now)
    lab.look(1)
    assert (failure_of(lab).reason, lab.arm().failed_attempts) == ("Evicted", 0)


def test_what_the_api_server_refuses_fails_its_component_alone() -> None:
    lab = new(components=[{"name": "a", "preset": "ema"}, {"name": "b", "preset": "ema"}], parallelism=2)
    lab.prepared()
    message = 'Job.batch "x" is invalid: spec.template.spec.containers[0].resources.requests: Invalid value: "2"'
    lab.refuse("a-1", message)
    lab.start("b-1")
    lab.look(1)
    failure = failure_of(lab, "a-1")
    assert (lab.arm("a-1").phase, failure.reason) == ("Failed", "InvalidSpec")
    assert message in failure.message
    assert (lab.arm("b-1").phase, lab.status.phase) == ("Training", "Running")
    assert (lab.condition("Stalled").status, lab.condition("Stalled").reason) == ("True", "InvalidSpec")
    assert message in lab.condition("Stalled").message
    assert lab.condition("Reconciling").status == "True"


def test_backoff_doubles_until_the_limit_and_then_the_component_failed() -> None:
    lab = new(backoffLimit=3)
    lab.training()
    delays = []
    for attempt in (1, 2, 3):
        lab.pod("train", "c-1", attempt, **exits(1))
        lab.look(1)
        arm = lab.arm()
        assert (arm.phase, arm.attempt, arm.failed_attempts) == ("Pending", attempt + 1, attempt)
        assert arm.retry_time is not None
        delays.append((arm.retry_time - lab.now).total_seconds())
        assert lab.due() == delays[-1]
        lab.look(delays[-1])
        waiting = lab.arm().waiting
        assert waiting is not None
        assert waiting.reason == "WaitingForPods", "objects of the attempt before are still there"
        lab.remove("c-1")
        lab.look(1)
        assert lab.arm().phase == "Starting"
        lab.start(attempt=attempt + 1)
        lab.look(1)
    lab.pod("train", "c-1", 4, **exits(1))
    lab.look(1)
    assert (lab.arm().phase, lab.arm().failed_attempts, lab.arm().attempt) == ("Failed", 4, 4)
    assert delays == [10, 20, 40]


def test_the_delay_has_a_limit() -> None:
    lab = new(backoffLimit=30)
    lab.training()
    for attempt in range(1, 12):
        lab.pod("train", "c-1", attempt, **exits(1))
        lab.look(1)
        retry = lab.arm().retry_time
        assert retry is not None
        lab.remove("c-1")
        lab.look((retry - lab.now).total_seconds())
        lab.start(attempt=attempt + 1)
        lab.look(1)
    lab.pod("train", "c-1", 12, **exits(1))
    lab.look(1)
    assert lab.due() == 600


def test_a_failure_is_kept_through_the_next_attempt() -> None:
    lab = new().training()
    lab.pod("train", "c-1", **exits(137, "OOMKilled"))
    lab.look(1)
    lab.remove("c-1")
    lab.look(10)
    lab.start(attempt=2)
    lab.look(1)
    assert (lab.arm().phase, failure_of(lab).reason, failure_of(lab).attempt) == ("Training", "OOMKilled", 1)


def test_an_evaluation_that_fails_is_tried_again_without_training() -> None:
    lab = new().evaluating()
    lab.pod("evaluate", "c-1", **exits(1))
    lab.look(1)
    assert (lab.arm().phase, lab.arm().attempt) == ("Pending", 2)
    lab.remove("c-1")
    lab.look(10)
    assert lab.arm().phase == "Evaluating"


def test_what_an_older_attempt_left_says_nothing_of_this_one() -> None:
    lab = new().training()
    lab.pod("train", "c-1", **exits(1))
    lab.look(1)
    before = lab.arm()
    lab.look(3)
    assert lab.arm() == before


def test_a_pod_that_was_drained_as_it_ended_well_is_no_failure() -> None:
    lab = new().training()
    lab.pod("train", "c-1", phase="Succeeded", disruption_reason="EvictionByEvictionAPI", container={"exit_code": 0})
    lab.look(1)
    assert lab.arm().phase == "Training"
