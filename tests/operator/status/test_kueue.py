"""Components in a queue of a real Kueue: queued, admitted, evicted, resumed (requirement O15)."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.waiting import eventually
from tests.operator.controller.harness import SCORES, Operator, ends, install, manifest, pod, status

QUEUES: list[dict[str, Any]] = [
    {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "ResourceFlavor",
        "metadata": {"name": "default"},
    },
    {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "ClusterQueue",
        "metadata": {"name": "gpus"},
        "spec": {
            "namespaceSelector": {},
            "preemption": {"withinClusterQueue": "LowerPriority"},
            "resourceGroups": [
                {
                    "coveredResources": ["nvidia.com/gpu", "cpu", "memory"],
                    "flavors": [
                        {
                            "name": "default",
                            "resources": [
                                {"name": "nvidia.com/gpu", "nominalQuota": "3"},
                                {"name": "cpu", "nominalQuota": "1000"},
                                {"name": "memory", "nominalQuota": "10Ti"},
                            ],
                        }
                    ],
                }
            ],
        },
    },
]


@pytest.fixture(scope="module")
def kueue() -> Iterator[Cluster]:
    """A cluster with Kueue, a queue of three GPUs, and an operator."""
    with Cluster() as running:
        running.start_kueue()
        install(running)
        running.add_volumes(10)
        running.apply(*QUEUES)
        eventually(Operator(running, retrySeconds=1.0, statusSeconds=1.0).leads)
        yield running


@pytest.fixture
def namespace(kueue: Cluster) -> Iterator[str]:
    """A namespace with a queue."""
    name = kueue.create_namespace()
    queue = {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "LocalQueue", "metadata": {"name": "team"}}
    kueue.apply(queue | {"spec": {"clusterQueue": "gpus"}}, namespace=name)
    yield name
    kueue.kubectl("delete", "sdr", "--all", "-n", name)


def arm(cluster: Cluster, namespace: str, run: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The component of a run once something holds of it."""

    def look() -> dict[str, Any]:
        found = status(cluster, namespace, run).get("components") or [{}]
        assert holds(found[0]), json.dumps(found[0])[-2000:]
        return dict(found[0])

    return eventually(look, 60, every=0.3)


def in_phase(*phases: str) -> Callable[[dict[str, Any]], bool]:
    return lambda found: found.get("phase") in phases


def workload(cluster: Cluster, namespace: str, run: str) -> dict[str, Any]:
    found = cluster.json("get", "workloads.kueue.x-k8s.io", "-n", namespace, "-l", f"unisd.dev/run={run}")["items"]
    (only,) = found
    return dict(only)


def active(cluster: Cluster, namespace: str, run: str, value: bool) -> None:
    """What a queue's administrator does to hold a Workload, and to let it go on."""
    name = workload(cluster, namespace, run)["metadata"]["name"]
    patch = json.dumps({"spec": {"active": value}})
    cluster.kubectl("patch", "workloads.kueue.x-k8s.io", name, "-n", namespace, "--type=merge", "-p", patch)


def queued_run(name: str, trains: str | None) -> dict[str, Any]:
    """A run that needs two GPUs."""
    return manifest(name, trains=trains, queueName="team", evaluation=pod(result={"evaluations": SCORES}))


def test_the_second_waits_until_the_first_has_ended(kueue: Cluster, namespace: str) -> None:
    kueue.apply(queued_run("first", "6s"), namespace=namespace)
    arm(kueue, namespace, "first", in_phase("Training"))
    kueue.apply(queued_run("second", "0.5s"), namespace=namespace)
    waits = arm(kueue, namespace, "second", lambda found: "insufficient" in found.get("waiting", {}).get("message", ""))
    assert (waits["phase"], waits["waiting"]["reason"]) == ("Queued", "Queued")
    assert status(kueue, namespace, "second")["reason"] == "Queued"
    jobs = kueue.json("get", "jobs", "-n", namespace, "-l", "unisd.dev/run=second,unisd.dev/arm")["items"]
    assert jobs == [], "what waits in a queue has no pods"
    ends(kueue, namespace, "first", within=90)
    ends(kueue, namespace, "second", within=90)


def test_a_component_that_is_evicted_stops_frees_its_quota_and_goes_on(kueue: Cluster, namespace: str) -> None:
    kueue.apply(queued_run("exp", None), namespace=namespace)
    arm(kueue, namespace, "exp", in_phase("Training"))
    high = {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "WorkloadPriorityClass", "metadata": {"name": "high"}}
    kueue.apply(high | {"value": 1000})
    kueue.apply(urgent(), namespace=namespace)
    evicted = arm(kueue, namespace, "exp", in_phase("Queued"))
    assert evicted["failedAttempts"] == 0
    assert "failure" not in evicted

    def admitted() -> bool:
        found = kueue.json("get", "workloads.kueue.x-k8s.io", "urgent", "-n", namespace)
        conditions = {c["type"]: c["status"] for c in found.get("status", {}).get("conditions", [])}
        assert conditions.get("Admitted") == "True", conditions
        return True

    eventually(admitted)
    pods = kueue.json("get", "pods", "-n", namespace, "-l", "unisd.dev/arm")["items"]
    assert pods == [], "the quota was freed once the pods had stopped"
    kueue.kubectl("delete", "workloads.kueue.x-k8s.io", "urgent", "-n", namespace)
    again = arm(kueue, namespace, "exp", in_phase("Training"))
    assert again["attempt"] == 1


def urgent() -> dict[str, Any]:
    """A Workload of somebody else's that needs the whole queue."""
    container = {"name": "c", "image": "i", "resources": {"requests": {"nvidia.com/gpu": "3"}}}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    return {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "Workload",
        "metadata": {"name": "urgent"},
        "spec": {
            "queueName": "team",
            "priority": 1000,
            "priorityClassRef": {"group": "kueue.x-k8s.io", "kind": "WorkloadPriorityClass", "name": "high"},
            "podSets": [{"name": "main", "count": 1, "template": template}],
        },
    }


def test_a_workload_that_is_held_by_hand_waits_until_it_is_let_go(kueue: Cluster, namespace: str) -> None:
    """The operator does not claim `spec.active` back while the run is not suspended itself."""
    kueue.apply(queued_run("exp", None), namespace=namespace)
    arm(kueue, namespace, "exp", in_phase("Training"))
    active(kueue, namespace, "exp", False)
    arm(kueue, namespace, "exp", in_phase("Queued"))
    eventually(lambda: not kueue.json("get", "pods", "-n", namespace, "-l", "unisd.dev/arm")["items"])
    active(kueue, namespace, "exp", True)
    assert arm(kueue, namespace, "exp", in_phase("Training"))["attempt"] == 1


def test_suspension_frees_the_quota_and_resuming_queues_again(kueue: Cluster, namespace: str) -> None:
    kueue.apply(queued_run("exp", None), namespace=namespace)
    arm(kueue, namespace, "exp", in_phase("Training"))
    kueue.kubectl("patch", "sdr", "exp", "-n", namespace, "--type=merge", "-p", '{"spec": {"suspend": true}}')
    arm(kueue, namespace, "exp", in_phase("Suspended"))

    def free() -> bool:
        conditions = {c["type"]: c["status"] for c in workload(kueue, namespace, "exp")["status"]["conditions"]}
        assert conditions.get("QuotaReserved") == "False", conditions
        return True

    eventually(free)
    kueue.kubectl("patch", "sdr", "exp", "-n", namespace, "--type=merge", "-p", '{"spec": {"suspend": false}}')
    assert arm(kueue, namespace, "exp", in_phase("Training"))["attempt"] == 1
