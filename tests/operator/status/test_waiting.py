"""Why something has not started, and what becomes of it when it takes too long."""

from dataclasses import replace
from typing import Any

import pytest
from unisd_operator.api.status import Waiting
from unisd_operator.settings import Settings

from tests.operator.status.lab import Lab, new

QUOTA = 'pods "x" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=1, used: 3, limited: 3'
SECURITY = 'pods "x" is forbidden: violates PodSecurity "restricted:latest": hostPath volumes (volume "d")'
LIMITS = 'Error creating: Pod "x" is invalid: spec.containers[0].resources.requests: Invalid value: "2Gi": must be less than or equal to memory limit of 1Gi'
FULL = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: 0/3 nodes are available."
UNBOUND = "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims."


def waiting_of(lab: Lab, arm: str = "c-1") -> Waiting:
    waiting = lab.arm(arm).waiting
    assert waiting is not None
    return waiting


def unscheduled(message: str) -> dict[str, Any]:
    return {"phase": "Pending", "node": "", "scheduled": False, "scheduler_message": message, "started": None}


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (FULL, "Unschedulable"),
        ("0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had volume node affinity conflict.", "Unschedulable"),
        (UNBOUND, "VolumeNotReady"),
        ('0/3 nodes are available: persistentvolumeclaim "demo" not found.', "VolumeNotReady"),
    ],
)
def test_words_of_the_scheduler(message: str, reason: str) -> None:
    lab = new()
    lab.prepared()
    lab.claim("Pending" if reason == "VolumeNotReady" else "Bound")
    lab.job("train", "c-1")
    lab.pod("train", "c-1", **unscheduled(message))
    lab.look(1)
    assert (lab.arm().phase, waiting_of(lab).reason) == ("Starting", reason)
    assert message in waiting_of(lab).message
    assert ("claim demo is Pending" in waiting_of(lab).message) == (reason == "VolumeNotReady")
    assert lab.status.reason == reason
    assert message in lab.condition("Reconciling").message


@pytest.mark.parametrize(
    ("message", "reason"), [(QUOTA, "QuotaExceeded"), (SECURITY, "Forbidden"), (LIMITS, "Forbidden")]
)
@pytest.mark.parametrize("maker", ["Job", "Deployment"])
def test_pods_that_are_not_let_in(message: str, reason: str, maker: str) -> None:
    lab = new()
    lab.prepared()
    if maker == "Job":
        lab.job("train", "c-1", refusal=message)
        lab.deployment()
    else:
        lab.job("train", "c-1")
        lab.pod("train", "c-1")
        lab.deployment(refusal=message)
    lab.look(1)
    assert (lab.arm().phase, waiting_of(lab).reason, waiting_of(lab).message) == ("Starting", reason, message)
    lab.start()
    lab.job("train", "c-1", refusal=message)
    lab.look(1)
    assert (lab.arm().phase, lab.arm().waiting) == ("Training", None), (
        "an old Event says nothing once the pods are there"
    )


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ('jobs.batch "x" is forbidden: exceeded quota: jobs, requested: count/jobs.batch=1', "QuotaExceeded"),
        ('jobs.batch "x" is forbidden: User "system:serviceaccount:a:b" cannot patch resource "jobs"', "Forbidden"),
    ],
)
def test_objects_that_are_not_let_in_wait_too(message: str, reason: str) -> None:
    lab = new()
    lab.look()
    lab.refuse("prepare", message)
    lab.look(1)
    waiting = lab.stage().waiting
    assert waiting is not None
    assert (lab.stage().phase, waiting.reason, waiting.message) == ("Starting", reason, message)


def test_a_stage_waits_with_its_reason() -> None:
    lab = new()
    lab.look()
    lab.job("prepare")
    lab.pod("prepare", **unscheduled(FULL))
    lab.look(1)
    waiting = lab.stage().waiting
    assert waiting is not None
    assert (lab.stage().phase, waiting.reason, lab.status.phase) == ("Starting", "Unschedulable", "Preparing")


def test_a_claim_that_is_not_bound_keeps_scheduled_pods_waiting() -> None:
    lab = new()
    lab.look()
    lab.claim("Lost")
    lab.job("prepare")
    lab.pod("prepare", phase="Pending")
    lab.look(1)
    waiting = lab.stage().waiting
    assert waiting is not None
    assert (waiting.reason, waiting.message) == ("VolumeNotReady", "claim demo is Lost")


def test_what_containers_wait_for_is_told() -> None:
    lab = new()
    lab.prepared()
    lab.job("train", "c-1")
    lab.pod("train", "c-1", phase="Pending", container={"waiting_reason": "ContainerCreating"})
    lab.look(1)
    assert waiting_of(lab).reason == "WaitingForPods"
    assert waiting_of(lab).message == "0 of 2 pods run (ContainerCreating)"
    lab.pod("train", "c-1", phase="Pending", event='Pulling image "trainer:1"')
    lab.look(1)
    assert waiting_of(lab).message == '0 of 2 pods run (Pulling image "trainer:1")'


def test_a_volume_that_is_not_mounted_is_told_in_the_kubelets_words() -> None:
    said = 'MountVolume.SetUp failed for volume "extra" : configmap "absent" not found'
    lab = new()
    lab.look()
    lab.job("prepare")
    lab.pod("prepare", phase="Pending", event=said)
    lab.look(1)
    waiting = lab.stage().waiting
    assert waiting is not None
    assert (waiting.reason, waiting.message) == ("VolumeNotReady", f"pod prepare-None-1-0: {said}")
    lab.look(1800)
    failure = lab.stage().failure
    assert failure is not None
    assert failure.reason == "DeadlineExceeded"
    assert said in failure.message


def test_a_foreign_claim_stalls_the_run_with_the_way_out() -> None:
    lab = new()
    lab.observed = replace(lab.observed, foreign_claim=True)
    lab.look()
    assert (lab.status.phase, lab.status.reason, lab.stage().phase) == ("Pending", "ForeignClaim", "Pending")
    stalled = lab.condition("Stalled")
    assert (stalled.status, stalled.reason) == ("True", "ForeignClaim")
    assert "storage.existingClaim" in stalled.message
    assert lab.condition("Reconciling").status == "False"
    lab.observed = replace(lab.observed, foreign_claim=False)
    lab.look(60)
    assert (lab.stage().phase, lab.condition("Stalled").status) == ("Starting", "False")


def test_a_foreign_claim_that_is_found_as_the_stage_begins_takes_it_back() -> None:
    lab = new()
    lab.look()
    assert lab.stage().phase == "Starting"
    lab.observed = replace(lab.observed, foreign_claim=True)
    lab.look(1)
    assert (lab.stage().phase, lab.stage().attempt, lab.condition("Stalled").status) == ("Pending", 1, "True")


@pytest.mark.parametrize("role", ["storage", "config"])
def test_what_a_stage_needs_beside_its_job_is_told_by_it(role: str) -> None:
    lab = new()
    lab.look()
    lab.refuse(role, 'persistentvolumeclaims "demo" is forbidden: exceeded quota: storage')
    lab.look(1)
    waiting = lab.stage().waiting
    assert waiting is not None
    assert waiting.reason == "QuotaExceeded"


# -- preRunningDeadlineSeconds


def test_pods_without_a_node_are_given_back_and_asked_for_again() -> None:
    lab = new(preRunningDeadlineSeconds=60)
    lab.prepared()
    lab.start()
    lab.pod("train", "c-1", **unscheduled(FULL))
    lab.look(1)
    assert lab.due() == 59
    lab.look(59)
    arm = lab.arm()
    assert (arm.phase, arm.attempt, arm.failed_attempts, arm.admission_attempts) == ("Pending", 2, 0, 1)
    assert (arm.failure, arm.admitted_time, waiting_of(lab).reason) == (None, None, "Unschedulable")
    assert FULL in waiting_of(lab).message
    assert arm.retry_time is not None
    assert 5 <= (arm.retry_time - lab.now).total_seconds() <= 15
    lab.remove("c-1")
    lab.look(15)
    assert lab.arm().phase == "Starting"


def test_pods_that_do_not_run_on_their_nodes_are_a_failed_attempt() -> None:
    lab = new(preRunningDeadlineSeconds=60)
    lab.prepared()
    lab.start()
    lab.pod("train", "c-1", phase="Pending", container={"waiting_reason": "ContainerCreating"})
    lab.look(60)
    arm = lab.arm()
    assert arm.failure is not None
    assert (arm.phase, arm.failure.reason, arm.failed_attempts) == ("Pending", "DeadlineExceeded", 1)


def test_quota_never_fails_a_component() -> None:
    lab = new(preRunningDeadlineSeconds=60, backoffLimit=0)
    lab.prepared()
    for attempt in range(1, 6):
        lab.job("train", "c-1", attempt, refusal=QUOTA)
        lab.look(1)
        lab.look(60)
        assert (lab.arm().phase, lab.arm().admission_attempts) == ("Pending", attempt)
        lab.remove("c-1")
        lab.look(700)
        assert lab.arm().phase == "Starting"


def test_the_slot_of_a_released_component_goes_to_the_next() -> None:
    lab = new(components=[{"name": "a", "preset": "ema"}, {"name": "b", "preset": "ema"}], preRunningDeadlineSeconds=60)
    lab.prepared()
    lab.job("train", "a-1")
    lab.look(60)
    assert [arm.phase for arm in lab.status.components] == ["Pending", "Starting"]


def test_an_evaluation_waits_for_its_place_no_longer_than_a_training() -> None:
    lab = new(components=[{"name": "c", "preset": "raw"}], preRunningDeadlineSeconds=60)
    lab.prepared()
    lab.job("evaluate", "c-1")
    lab.pod("evaluate", "c-1")
    lab.pod("rollout", "c-1", **unscheduled(FULL))
    lab.look(1)
    assert waiting_of(lab).reason == "Unschedulable"
    lab.look(60)
    assert (lab.arm().phase, lab.arm().admission_attempts) == ("Pending", 1)


def test_an_evaluation_is_not_given_up_when_a_server_is_replaced_late() -> None:
    lab = new(preRunningDeadlineSeconds=60).evaluating()
    lab.look(5000)
    lab.pod("rollout", "c-1", **unscheduled(FULL))
    lab.look(30)
    assert (lab.arm().phase, waiting_of(lab).reason) == ("Evaluating", "Unschedulable")
    lab.pod("rollout", "c-1")
    lab.look(10)
    assert (lab.arm().phase, lab.arm().waiting) == ("Evaluating", None)


def test_two_runs_of_two_gpus_complete_on_three() -> None:
    """O14 on paper: whoever gets the odd GPU gives it back and comes again."""
    labs = [new(settings=Settings(retry_seconds=1), preRunningDeadlineSeconds=20) for _ in range(2)]
    for lab in labs:
        lab.prepared()
    held = {0: 2, 1: 1}
    done = {0: False, 1: False}
    for tick in range(200):
        for index, lab in enumerate(labs):
            arm = lab.arm()
            if arm.phase == "Starting":
                free = 3 - sum(held.values()) + held[index]
                got = held[index] = min(2, free)
                lab.remove("c-1")
                lab.start(attempt=arm.attempt)
                if got < 2:
                    lab.pod("rollout", "c-1", arm.attempt, **unscheduled(FULL))
            elif arm.phase == "Training" and tick > 60:
                lab.remove("c-1")
                lab.end("train", "c-1", "{}", arm.attempt)
                lab.pod("evaluate", "c-1", arm.attempt)
                lab.end(
                    "evaluate",
                    "c-1",
                    '{"result": {"evaluations": [{"task": "cos_e", "metric": "a", "score": 1}]}}',
                    arm.attempt,
                )
            elif arm.phase in ("Pending", "Succeeded"):
                lab.remove("c-1")
                held[index] = 0
                done[index] = arm.phase == "Succeeded"
            lab.look(1)
    assert done == {0: True, 1: True}
    assert labs[1].arm().admission_attempts >= 1


def test_the_delay_after_a_release_differs_between_runs_and_is_the_same_when_derived_again() -> None:
    delays = set()
    for uid in ("a", "b", "c", "d"):
        lab = new(preRunningDeadlineSeconds=60)
        lab.run = replace(lab.run, uid=uid)
        lab.prepared()
        lab.look(60)
        retry = lab.arm().retry_time
        assert retry is not None
        delays.add((retry - lab.now).total_seconds())
    assert len(delays) == 4


# -- Kueue


def queued_lab() -> Lab:
    lab = new(queueName="gpus")
    lab.observed = replace(lab.observed, kueue=True)
    return lab.prepared()


def test_without_kueue_a_queue_name_says_so() -> None:
    lab = new(queueName="gpus")
    lab.prepared()
    assert (lab.arm().phase, waiting_of(lab).reason) == ("Pending", "Queued")
    assert "Kueue is not installed" in waiting_of(lab).message
    assert lab.status.reason == "Queued"


def test_a_component_waits_in_its_queue_until_it_is_admitted() -> None:
    lab = queued_lab()
    assert (lab.arm().phase, lab.arm().admitted_time) == ("Queued", None)
    lab.workload(QuotaReserved="False", message="couldn't assign flavors: insufficient unused quota")
    lab.look(5000)
    assert lab.arm().phase == "Queued", "no deadline runs in a queue"
    assert waiting_of(lab).message == "waits in queue gpus: couldn't assign flavors: insufficient unused quota"
    lab.workload(QuotaReserved="True", Admitted="True")
    lab.look(1)
    assert (lab.arm().phase, lab.arm().admitted_time) == ("Starting", lab.now)


def test_a_component_that_kueue_evicts_queues_again_once_its_pods_are_gone() -> None:
    lab = queued_lab()
    lab.workload(Admitted="True")
    lab.look(1)
    lab.start()
    lab.look(1)
    assert lab.arm().phase == "Training"
    lab.workload(Admitted="True", Evicted="True", message="Preempted to accommodate a workload")
    lab.look(1)
    arm = lab.arm()
    assert (arm.phase, arm.attempt, arm.failed_attempts, arm.admitted_time) == ("Queued", 1, 0, None)
    lab.workload(Admitted="False", Evicted="True")
    lab.look(1)
    lab.workload(Admitted="True", Evicted="False")
    lab.look(1)
    assert lab.arm().phase == "Queued", "its old pods are still there"
    lab.remove("c-1", "train", "rollout")
    lab.look(1)
    assert (lab.arm().phase, lab.arm().attempt) == ("Starting", 1)


def test_a_pod_lost_while_evicted_moves_the_component_to_another_attempt() -> None:
    lab = queued_lab()
    lab.workload(Admitted="True")
    lab.look(1)
    lab.start()
    lab.look(1)
    lab.workload(Admitted="True", Evicted="True")
    lab.pod("train", "c-1", deleting_since=lab.now)
    lab.look(1)
    assert (lab.arm().phase, lab.arm().attempt) == ("Queued", 1)
    lab.look(60)
    assert (lab.arm().phase, lab.arm().attempt) == ("Queued", 2)
