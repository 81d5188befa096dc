"""Requirements O14 and O15: runs that need more GPUs than there are, by the operator's own back-off and by Kueue."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.waiting import eventually
from tests.operator.controller.harness import CRD, SYSTEM, Operator, children, ends, manifest, status


@pytest.fixture
def small() -> Iterator[Cluster]:
    """A cluster with three GPUs and no operator yet."""
    with Cluster() as running:
        running.kubectl("apply", "--server-side", "-f", str(CRD))
        running.create_namespace(SYSTEM)
        running.add_fake_node("node-a", gpus=3)
        running.add_volumes(8)
        yield running


def queues(cluster: Cluster, namespace: str, gpus: int) -> None:
    """One queue with so many GPUs, that preempts for higher priority."""
    group = "kueue.x-k8s.io/v1beta2"
    flavor: dict[str, Any] = {"apiVersion": group, "kind": "ResourceFlavor", "metadata": {"name": "any"}}
    resources = [
        {"name": "nvidia.com/gpu", "nominalQuota": gpus},
        {"name": "cpu", "nominalQuota": 1000},
        {"name": "memory", "nominalQuota": "10Ti"},
    ]
    covered = {
        "coveredResources": [resource["name"] for resource in resources],
        "flavors": [{"name": "any", "resources": resources}],
    }
    spec = {"namespaceSelector": {}, "resourceGroups": [covered]}
    queue: dict[str, Any] = {"apiVersion": group, "kind": "ClusterQueue", "metadata": {"name": "all"}, "spec": spec}
    local = {"apiVersion": group, "kind": "LocalQueue", "metadata": {"name": "gpus"}, "spec": {"clusterQueue": "all"}}
    cluster.apply(flavor, queue)
    cluster.apply(local, namespace=namespace)


def gpus_in_use(cluster: Cluster, namespace: str) -> int:
    """GPUs of pods that are on a node and have not ended."""
    return sum(
        int(container["resources"].get("limits", {}).get("nvidia.com/gpu", 0))
        for item in children(cluster, namespace, "pods")
        if item["spec"].get("nodeName") and item["status"].get("phase") not in ("Succeeded", "Failed")
        for container in item["spec"]["containers"]
    )


def phase(cluster: Cluster, namespace: str, name: str) -> str:
    """Phase of a run's only component."""
    components = status(cluster, namespace, name).get("components", [{}])
    return str(components[0].get("phase", "")) if components else ""


def test_two_runs_of_two_gpus_complete_on_three(small: Cluster) -> None:
    """Neither holds one GPU for ever while it waits for another: O14."""
    namespace = small.create_namespace()
    Operator(small, leaderElection=False, retrySeconds=1.0)
    small.apply(
        *(manifest(name, trains="4s", preRunningDeadlineSeconds=10) for name in ("one", "two")), namespace=namespace
    )
    for name in ("one", "two"):
        ended = ends(small, namespace, name, within=180)
        assert ended["components"][0]["failedAttempts"] == 0


def test_kueue_admits_evicts_and_resumes(small: Cluster) -> None:
    """Requirement O15: queued, admitted, evicted, queued again, resumed."""
    small.start_kueue()
    namespace = small.create_namespace()
    queues(small, namespace, gpus=3)
    Operator(small, leaderElection=False, retrySeconds=1.0)
    small.apply(manifest("first", trains=None, queueName="gpus"), namespace=namespace)
    eventually(lambda: phase(small, namespace, "first") == "Training", within=90)
    small.apply(manifest("second", trains="2s", queueName="gpus"), namespace=namespace)
    eventually(lambda: phase(small, namespace, "second") == "Queued", within=60)
    assert gpus_in_use(small, namespace) == 2

    (workload,) = [
        item for item in small.json("get", "workloads", "-n", namespace)["items"] if item["metadata"]["name"].startswith("first-star")
    ]  # fmt: skip
    name = workload["metadata"]["name"]
    conditions = {one["type"]: one["status"] for one in workload["status"]["conditions"]}
    eventually(lambda: "PodsReady" in str(small.json("get", "workload", name, "-n", namespace)["status"]["conditions"]))
    assert conditions["Admitted"] == "True"

    small.kubectl("patch", "workload", name, "-n", namespace, "--type=merge", "-p", '{"spec":{"active":false}}')
    eventually(lambda: phase(small, namespace, "first") == "Queued", within=60)
    ends(small, namespace, "second", within=120)

    small.kubectl("patch", "workload", name, "-n", namespace, "--type=merge", "-p", '{"spec":{"active":true}}')
    eventually(lambda: phase(small, namespace, "first") == "Training", within=90)
    found = status(small, namespace, "first")["components"][0]
    assert found["failedAttempts"] == 0


def test_a_queue_without_kueue_is_told(small: Cluster) -> None:
    namespace = small.create_namespace()
    Operator(small, leaderElection=False)
    small.apply(manifest("run", queueName="gpus"), namespace=namespace)

    def told() -> bool:
        components = status(small, namespace, "run").get("components", [])
        assert components, "no components yet"
        return "Kueue is not installed" in str(components[0].get("waiting"))

    eventually(told, within=60)
