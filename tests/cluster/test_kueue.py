"""Kueue outside the cluster admits by quota, validates by its webhooks, and stands in nobody's way when it is down."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.cluster import Cluster, KubectlError
from tests.cluster.objects import job
from tests.cluster.waiting import eventually

VERSION = "kueue.x-k8s.io/v1beta2"
NOW = "2026-01-01T00:00:00Z"


@pytest.fixture
def queue(kueue_cluster: Cluster) -> Iterator[str]:
    """A namespace with the LocalQueue `queue`, for three GPUs of its own."""
    namespace = kueue_cluster.create_namespace()
    quota = {"name": "nvidia.com/gpu", "nominalQuota": 3}
    group = {"coveredResources": ["nvidia.com/gpu"], "flavors": [{"name": namespace, "resources": [quota]}]}
    kueue_cluster.apply(
        kueue_object("ResourceFlavor", namespace),
        kueue_object("ClusterQueue", namespace, {"namespaceSelector": {}, "resourceGroups": [group]}),
        kueue_object("LocalQueue", "queue", {"clusterQueue": namespace}, namespace),
    )
    yield namespace
    kueue_cluster.kubectl("delete", "namespace", namespace, "--wait=false")
    kueue_cluster.kubectl("delete", "clusterqueue", namespace, "--wait=false")
    kueue_cluster.kubectl("delete", "resourceflavor", namespace, "--wait=false")


def kueue_object(kind: str, name: str, spec: Any = None, namespace: str | None = None) -> dict[str, Any]:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": VERSION, "kind": kind, "metadata": metadata, **({"spec": spec} if spec else {})}


def workload(name: str, namespace: str, gpus: int, count: int = 1) -> dict[str, Any]:
    container = {"name": "main", "image": "nothing", "resources": {"requests": {"nvidia.com/gpu": gpus}}}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    pods = {"name": "trainer", "count": count, "template": template}
    return kueue_object("Workload", name, {"queueName": "queue", "podSets": [pods]}, namespace)


def condition(cluster: Cluster, namespace: str, name: str, kind: str) -> str:
    """Status of a Workload's condition; empty if it has none."""
    query = f'jsonpath={{.status.conditions[?(@.type=="{kind}")].status}}'
    return cluster.kubectl("get", "workload", name, "-n", namespace, "-o", query)


def test_a_workload_is_admitted_when_there_is_quota(kueue_cluster: Cluster, queue: str) -> None:
    kueue_cluster.apply(workload("first", queue, gpus=2))
    eventually(lambda: condition(kueue_cluster, queue, "first", "Admitted") == "True")
    kueue_cluster.apply(workload("second", queue, gpus=2))
    eventually(lambda: condition(kueue_cluster, queue, "second", "QuotaReserved") == "False")

    finished = {"type": "Finished", "status": "True", "reason": "Done", "message": "", "observedGeneration": 1}
    patch = [{"op": "add", "path": "/status/conditions/-", "value": {**finished, "lastTransitionTime": NOW}}]
    target = ("workload", "first", "-n", queue, "--subresource=status")
    kueue_cluster.kubectl("patch", *target, "--type=json", "-p", json.dumps(patch))
    eventually(lambda: condition(kueue_cluster, queue, "second", "Admitted") == "True")


def test_the_webhook_of_workloads_refuses(kueue_cluster: Cluster, queue: str) -> None:
    kueue_cluster.apply(workload("w", queue, gpus=1))
    eventually(lambda: condition(kueue_cluster, queue, "w", "Admitted") == "True")
    with pytest.raises(KubectlError, match=r'admission webhook "vworkload\.kb\.io" denied'):
        kueue_cluster.apply(workload("w", queue, gpus=1, count=2))


def test_older_versions_are_converted(kueue_cluster: Cluster, queue: str) -> None:
    found = kueue_cluster.json("get", "localqueues.v1beta1.kueue.x-k8s.io", "queue", "-n", queue)
    assert found["apiVersion"] == "kueue.x-k8s.io/v1beta1"


def test_pods_are_created_while_it_is_down(kueue_cluster: Cluster, queue: str) -> None:
    kueue_cluster.processes["kueue"].kill()
    try:
        kueue_cluster.apply(job("job"), namespace=queue)
        eventually(lambda: kueue_cluster.json("get", "pods", "-n", queue)["items"])
    finally:
        kueue_cluster.processes["kueue"].restart()
        kueue_cluster.wait_for_kueue()
