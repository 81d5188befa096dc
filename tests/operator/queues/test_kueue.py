"""Requirement O15: components in a real Kueue's queues, with the real operator beside it.

Kueue evicts Workloads whose pods are not told to be ready after `READY_WITHIN`: every other test here would end badly if
the operator did not tell.
"""

from collections.abc import Iterator

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.waiting import eventually
from tests.operator.controller.harness import Operator, ends, finish_training, install
from tests.operator.queues.queues import (
    add_local_queue,
    add_queue,
    component,
    gpu_pods,
    holds,
    queued_run,
    quota_follows_pods,
    reaches,
    used,
    workload,
)

pytestmark = pytest.mark.cluster

READY_WITHIN = 45
STRATEGY = {"timeout": f"{READY_WITHIN}s", "requeuingStrategy": {"backoffLimitCount": 1, "backoffBaseSeconds": 1}}


@pytest.fixture(scope="module")
def queues() -> Iterator[Cluster]:
    """A cluster with Kueue, an operator and more GPUs than any queue gives out."""
    with Cluster() as running:
        install(running)
        running.start_kueue({"waitForPodsReady": STRATEGY})
        high = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "high"}, "value": 7}
        running.apply(high)
        running.add_volumes(20)
        operator = Operator(running, leaderElection=False, retrySeconds=1.0, resyncSeconds=10.0, priorities={"high": 7})
        eventually(operator.leads)
        yield running


def test_components_are_queued_admitted_and_finished(queues: Cluster) -> None:
    namespace = add_queue(queues, gpus=2)
    run = queued_run("exp", parallelism=2, trains=None)
    run["spec"]["components"] = [{"name": name, "preset": "unisd_star"} for name in ("a", "b")]
    queues.apply(run, namespace=namespace)
    reaches(queues, namespace, "exp", "Queued", index=1, says="insufficient unused quota for nvidia.com/gpu")
    eventually(lambda: used(queues, namespace) == 2)
    for index in (0, 1):
        reaches(queues, namespace, "exp", "Training", index=index)
        finish_training(queues, namespace, "exp")
    ended = ends(queues, namespace, "exp")
    assert [arm["attempt"] for arm in ended["components"]] == [1, 1]
    eventually(lambda: used(queues, namespace) == 0)
    for item in queues.json("get", "workloads", "-n", namespace)["items"]:
        conditions = {one["type"]: one["status"] for one in item["status"]["conditions"]}
        assert (conditions["PodsReady"], conditions["Finished"]) == ("True", "True")
        assert item["metadata"]["ownerReferences"][0]["kind"] == "SelfDistillRun"
        assert "finalizers" not in item["metadata"]
        sizes = {one["name"]: one["count"] for one in item["spec"]["podSets"]}
        assert sizes == {"rollout": 1, "trainer": 1}


def test_a_preempted_component_stops_gives_its_quota_back_and_is_resumed(queues: Cluster) -> None:
    namespace = add_queue(queues, gpus=3, preemption={"withinClusterQueue": "LowerPriority"})
    queues.apply(queued_run("low", trains=None), namespace=namespace)
    reaches(queues, namespace, "low", "Training")
    since = queues.audit_position()
    high = queued_run("high", trains=None)
    high["spec"]["trainer"]["pod"]["priorityClassName"] = "high"
    queues.apply(high, namespace=namespace)
    waits = reaches(queues, namespace, "low", "Queued")
    assert waits["waiting"]["reason"] == "Queued"
    reaches(queues, namespace, "high", "Training")
    assert not gpu_pods(queues, namespace, "low")
    eventually(lambda: quota_follows_pods(queues, namespace, "low", since))
    reaches(queues, namespace, "low", "Queued", says="insufficient unused quota")

    finish_training(queues, namespace, "high")
    ends(queues, namespace, "high")
    resumed = reaches(queues, namespace, "low", "Training")
    assert (resumed["attempt"], resumed["failedAttempts"]) == (1, 0)
    finish_training(queues, namespace, "low")
    ends(queues, namespace, "low")


def test_a_deactivated_component_waits_for_whoever_deactivated_it(queues: Cluster) -> None:
    namespace = add_queue(queues, gpus=2)
    queues.apply(queued_run("exp", trains=None), namespace=namespace)
    reaches(queues, namespace, "exp", "Training")
    since = queues.audit_position()
    activate(queues, namespace, "exp", "false")
    name = workload(queues, namespace, "exp")["metadata"]["name"]
    reaches(queues, namespace, "exp", "Queued", says=f"Workload {name} is deactivated")
    eventually(lambda: not gpu_pods(queues, namespace, "exp"))
    eventually(lambda: holds(workload(queues, namespace, "exp"), "QuotaReserved") == "False")
    eventually(lambda: quota_follows_pods(queues, namespace, "exp", since))
    queues.apply(queued_run("other"), namespace=namespace)
    ends(queues, namespace, "other")

    activate(queues, namespace, "exp", "true")
    assert reaches(queues, namespace, "exp", "Training")["attempt"] == 1


def activate(cluster: Cluster, namespace: str, run: str, active: str) -> None:
    """What `kubectl` users do to a Workload."""
    name = workload(cluster, namespace, run)["metadata"]["name"]
    patch = f'{{"spec": {{"active": {active}}}}}'
    cluster.kubectl("patch", "workload", name, "-n", namespace, "--type=merge", "-p", patch)


def test_a_suspended_run_gives_its_quota_back_and_queues_again(queues: Cluster) -> None:
    namespace = add_queue(queues, gpus=2)
    queues.apply(queued_run("exp", trains=None), namespace=namespace)
    reaches(queues, namespace, "exp", "Training")
    since = queues.audit_position()
    suspend(queues, namespace, "exp", "true")
    reaches(queues, namespace, "exp", "Suspended")
    queues.apply(queued_run("other", trains=None), namespace=namespace)
    reaches(queues, namespace, "other", "Training")
    eventually(lambda: quota_follows_pods(queues, namespace, "exp", since))
    suspend(queues, namespace, "exp", "false")
    reaches(queues, namespace, "exp", "Queued", says="insufficient unused quota")
    assert not gpu_pods(queues, namespace, "exp")
    finish_training(queues, namespace, "other")
    assert reaches(queues, namespace, "exp", "Training")["attempt"] == 1


def suspend(cluster: Cluster, namespace: str, run: str, value: str) -> None:
    """What `kubectl` users do to a run."""
    patch = f'{{"spec": {{"suspend": {value}}}}}'
    cluster.kubectl("patch", "sdr", run, "-n", namespace, "--type=merge", "-p", patch)


def test_pods_that_never_run_are_evicted_and_in_the_end_deactivated(queues: Cluster) -> None:
    """Kueue's waitForPodsReady: one more try, then it waits for a person, and status says for what."""
    namespace = add_queue(queues, gpus=2)
    run = queued_run("exp")
    run["spec"]["trainer"]["pod"]["nodeSelector"] = {"no": "such-node"}
    queues.apply(run, namespace=namespace)
    reaches(queues, namespace, "exp", "Starting", says="node affinity/selector")
    since = queues.audit_position()
    eventually(
        lambda: quota_follows_pods(queues, namespace, "exp", since), within=180, every=1
    )  # once it is Queued again
    reaches(queues, namespace, "exp", "Starting", says="node affinity/selector")
    reaches(queues, namespace, "exp", "Queued", says="is deactivated")
    eventually(lambda: not gpu_pods(queues, namespace, "exp"))
    assert component(queues, namespace, "exp")["attempt"] == 1
    assert workload(queues, namespace, "exp")["spec"]["active"] is False


def test_a_missing_queue_is_named_and_found_once_it_is_there(queues: Cluster) -> None:
    namespace = add_queue(queues, gpus=2, local=False)
    queues.apply(queued_run("exp"), namespace=namespace)
    reaches(queues, namespace, "exp", "Queued", says="LocalQueue queue doesn't exist")
    add_local_queue(queues, namespace, namespace)
    ends(queues, namespace, "exp")


def test_a_deleted_workload_is_made_again_and_asked_for_anew(queues: Cluster) -> None:
    namespace = add_queue(queues, gpus=2)
    queues.apply(queued_run("exp", trains=None), namespace=namespace)
    reaches(queues, namespace, "exp", "Training")
    before = workload(queues, namespace, "exp")["metadata"]
    queues.kubectl("delete", "workload", before["name"], "-n", namespace)
    eventually(lambda: workload(queues, namespace, "exp")["metadata"]["uid"] != before["uid"])

    def ended() -> bool:
        """Ends its trainers, which may or may not have been stopped when their Workload went."""
        finish_training(queues, namespace, "exp")
        return component(queues, namespace, "exp")["phase"] == "Succeeded"

    eventually(ended, every=1)
    assert component(queues, namespace, "exp")["attempt"] == 1
    eventually(lambda: used(queues, namespace) == 0)
