"""Requirement O14: runs that do not all fit on the GPUs there are complete, without a queue and without a person."""

from collections.abc import Iterator

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.definition import define
from tests.cluster.waiting import eventually
from tests.operator.controller.harness import SYSTEM, Operator, ends, finish_training, manifest, status
from tests.operator.queues.queues import gpu_pods, reaches

pytestmark = pytest.mark.cluster
# Seconds: longer than pods take to run where there is room, on a slow machine, too.
LIMIT = 12


@pytest.fixture(scope="module")
def shared() -> Iterator[Cluster]:
    """A cluster with an operator, and no GPU yet."""
    with Cluster() as running:
        define(running)
        running.create_namespace(SYSTEM)
        running.add_volumes(10)
        operator = Operator(running, leaderElection=False, retrySeconds=1.0, resyncSeconds=5.0)
        eventually(operator.leads)
        yield running


@pytest.fixture
def node(shared: Cluster) -> Iterator[None]:
    """The only node, with three GPUs."""
    shared.add_fake_node("three", gpus=3)
    yield
    shared.kubectl("delete", "node", "three")


def test_two_runs_that_need_two_gpus_each_complete_on_three(shared: Cluster, node: None) -> None:
    """The second has one GPU in its hands for as long as it may, gives it back, and asks again until it gets two."""
    namespace = shared.create_namespace()
    shared.apply(manifest("first", trains=None), namespace=namespace)
    reaches(shared, namespace, "first", "Training")
    # A simulated trainer does not miss its server: were it to end by itself, it might give its GPU to that in time.
    shared.apply(manifest("second", trains=None, preRunningDeadlineSeconds=LIMIT), namespace=namespace)
    waits = reaches(shared, namespace, "second", "Starting", says="Insufficient nvidia.com/gpu")
    assert waits["waiting"]["reason"] == "Unschedulable"
    released = reaches(shared, namespace, "second", "Pending", says=f"released after {LIMIT} s")
    assert released["failedAttempts"] == 0
    assert released["admissionAttempts"] > 0
    eventually(lambda: not gpu_pods(shared, namespace, "second"))
    for name in ("first", "second"):
        reaches(shared, namespace, name, "Training")
        finish_training(shared, namespace, name)
        ended = ends(shared, namespace, name, within=240)
        assert ended["components"][0]["failedAttempts"] == 0
    assert status(shared, namespace, "first")["components"][0]["attempt"] == 1


def test_two_runs_that_hold_each_others_gpus_both_complete(shared: Cluster) -> None:
    """A GPU each on nodes of their own, which both need for their second pod: one lets go first."""
    namespace = shared.create_namespace()
    for name in ("one", "two"):
        shared.add_fake_node(name, gpus=1, labels={"gpu": name})
    for run, rollout, trainer in (("left", "one", "two"), ("right", "two", "one")):
        spec = manifest(run, preRunningDeadlineSeconds=LIMIT)
        spec["spec"]["rollout"] = {"pod": {"nodeSelector": {"gpu": rollout}}}
        spec["spec"]["trainer"]["pod"]["nodeSelector"] = {"gpu": trainer}
        shared.apply(spec, namespace=namespace)
    try:
        for run in ("left", "right"):
            assert ends(shared, namespace, run, within=360)["components"][0]["failedAttempts"] == 0
    finally:
        shared.kubectl("delete", "node", "one", "two")
