"""A run with a queue in a cluster without Kueue says so and holds nothing; it goes on once Kueue is installed."""

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.waiting import eventually
from tests.operator.controller.harness import Operator, children, ends, install, status
from tests.operator.queues.queues import add_local_queue, add_queue, queued_run, reaches


@pytest.fixture
def operator(fresh_cluster: Cluster) -> Operator:
    """An operator on a cluster of this test's own, which looks for Kueue every two seconds."""
    install(fresh_cluster)
    operator = Operator(fresh_cluster, leaderElection=False, resyncSeconds=2.0)
    eventually(operator.leads)
    return operator


@pytest.fixture
def plain(fresh_cluster: Cluster, operator: Operator) -> Cluster:
    """That cluster."""
    return fresh_cluster


def test_a_run_says_that_kueue_is_missing_and_goes_on_once_it_is_there(plain: Cluster, operator: Operator) -> None:
    namespace = plain.create_namespace()
    plain.apply(queued_run("exp"), namespace=namespace)
    waits = reaches(plain, namespace, "exp", "Pending", says="Kueue is not installed")
    assert waits["waiting"]["reason"] == "Queued"
    told = status(plain, namespace, "exp")
    assert told["reason"] == "Queued"
    reconciling = next(one for one in told["conditions"] if one["type"] == "Reconciling")
    assert "spec.queueName is queue, but Kueue is not installed" in reconciling["message"]
    arms = [item for item in children(plain, namespace) if "unisd.dev/arm" in item["metadata"]["labels"]]
    assert arms == [], "what waits for a queue holds nothing"

    plain.start_kueue()
    add_local_queue(plain, namespace, add_queue(plain, gpus=2, local=False))
    eventually(operator.restarted_if_ended)  # it starts anew to watch what is new, as a pod does
    ends(plain, namespace, "exp")


def test_a_run_without_a_queue_needs_no_kueue(plain: Cluster) -> None:
    namespace = plain.create_namespace()
    run = queued_run("exp")
    del run["spec"]["queueName"]
    plain.apply(run, namespace=namespace)
    ends(plain, namespace, "exp")
