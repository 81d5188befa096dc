"""Runs that want GPUs, Kueue's queues for them, and what pods and Workloads say of who has which."""

import json
from collections.abc import Mapping
from typing import Any

from tests.cluster.cluster import Cluster
from tests.cluster.waiting import eventually
from tests.operator.controller.harness import manifest, status

VERSION = "kueue.x-k8s.io/v1beta2"
QUEUE = "queue"
GPU = "nvidia.com/gpu"
NEVER_PREEMPT = {"withinClusterQueue": "Never"}


def add_queue(cluster: Cluster, gpus: int, preemption: Mapping[str, str] = NEVER_PREEMPT, local: bool = True) -> str:
    """A new namespace whose LocalQueue `queue`, if it is to have one, gives out so many GPUs; its name."""
    namespace = cluster.create_namespace()
    quotas = {"cpu": 1000, "memory": "10Ti", GPU: gpus}
    resources = [{"name": name, "nominalQuota": quota} for name, quota in quotas.items()]
    group = {"coveredResources": [*quotas], "flavors": [{"name": namespace, "resources": resources}]}
    spec = {"namespaceSelector": {}, "resourceGroups": [group], "preemption": preemption}
    cluster.apply(_kueue("ResourceFlavor", namespace), _kueue("ClusterQueue", namespace, spec=spec))
    if local:
        add_local_queue(cluster, namespace)
    return namespace


def add_local_queue(cluster: Cluster, namespace: str) -> None:
    """The LocalQueue of a namespace that has none yet."""
    cluster.apply(_kueue("LocalQueue", QUEUE, spec={"clusterQueue": namespace}), namespace=namespace)


def _kueue(kind: str, name: str, **body: Any) -> dict[str, Any]:
    return {"apiVersion": VERSION, "kind": kind, "metadata": {"name": name}, **body}


def queued_run(name: str, trains: str | None = "0.5s", **spec: Any) -> dict[str, Any]:
    """A run in that queue: each of its components needs a GPU for its server and one for its trainer."""
    return manifest(name, trains=trains, queueName=QUEUE, **spec)


def component(cluster: Cluster, namespace: str, run: str, index: int = 0) -> dict[str, Any]:
    """Status of one component."""
    found: dict[str, Any] = status(cluster, namespace, run)["components"][index]
    return found


def reaches(cluster: Cluster, namespace: str, run: str, phase: str, index: int = 0, says: str = "") -> dict[str, Any]:
    """Status of a component once it is in a phase, with these words in what it waits for."""

    def look() -> dict[str, Any]:
        now = status(cluster, namespace, run)
        arm: dict[str, Any] = now.get("components", [{}] * (index + 1))[index]
        words = arm.get("waiting", {}).get("message", "")
        assert (arm.get("phase"), says in words) == (phase, True), json.dumps(now)[-2500:]
        return arm

    return eventually(look, within=90, every=0.2)


def workload(cluster: Cluster, namespace: str, run: str) -> dict[str, Any]:
    """The Workload of a run of one component, its conditions by type."""
    (found,) = cluster.json("get", "workloads", "-n", namespace, "-l", f"unisd.dev/run={run}")["items"]
    conditions = {one["type"]: one for one in found.get("status", {}).get("conditions", ())}
    return {**found, "conditions": conditions}


def holds(found: Mapping[str, Any], condition: str) -> str:
    """Status of a condition of a Workload; empty if it has none."""
    return str(found["conditions"].get(condition, {}).get("status", ""))


def gpu_pods(cluster: Cluster, namespace: str, run: str) -> list[str]:
    """Names of a run's pods that hold a GPU of a node."""
    found = cluster.json("get", "pods", "-n", namespace, "-l", f"unisd.dev/run={run}")["items"]
    return [pod["metadata"]["name"] for pod in found if _has_gpu(pod)]


def _has_gpu(pod: Mapping[str, Any]) -> bool:
    limits = [container["resources"].get("limits", {}) for container in pod["spec"]["containers"]]
    ended = pod["status"]["phase"] in ("Succeeded", "Failed")
    return any(GPU in limit for limit in limits) and "nodeName" in pod["spec"] and not ended


def used(cluster: Cluster, namespace: str) -> int:
    """GPUs that the namespace's ClusterQueue has given out."""
    flavors = cluster.json("get", "clusterqueue", namespace).get("status", {}).get("flavorsUsage", [])
    return sum(int(one["total"]) for flavor in flavors for one in flavor["resources"] if one["name"] == GPU)


def finish_training(cluster: Cluster, namespace: str, run: str) -> None:
    """Ends a run's trainers, as their kubelet would."""
    selector = ("-l", f"unisd.dev/run={run},unisd.dev/role=train")
    cluster.kubectl("annotate", "pods", "-n", namespace, *selector, "test.unisd.dev/succeed-after=10ms")


def released_after_its_pods(cluster: Cluster, namespace: str, run: str, since: int) -> bool:
    """Whether the quota of an evicted run was given back once, after the last of its pods with a GPU was gone."""
    told = cluster.audit(since=since)
    name = workload(cluster, namespace, run)["metadata"]["name"]
    releases = [index for index, event in enumerate(told) if _releases(event, namespace, name)]
    gone = [index for index, event in enumerate(told) if _deletes_gpu_pod(event, namespace, run)]
    return len(releases) == 1 and bool(gone) and max(gone) < releases[0]


def _releases(event: Mapping[str, Any], namespace: str, name: str) -> bool:
    at = event["objectRef"]
    mine = (at.get("namespace"), at["resource"], at.get("subresource"), at.get("name"))
    if mine != (namespace, "workloads", "status", name) or event["responseStatus"]["code"] != 200:
        return False
    body = event.get("requestObject", {}).get("status", {})
    return event["verb"] == "patch" and "admission" in body and body["admission"] is None


def _deletes_gpu_pod(event: Mapping[str, Any], namespace: str, run: str) -> bool:
    """Whether a pod of a rollout server or trainer is gone: kwok's deletion is the last."""
    at = event.get("objectRef", {})
    if (event["verb"], at.get("resource"), at.get("namespace")) != ("delete", "pods", namespace):
        return False
    return event["user"]["username"] == "system:kwok" and at["name"].startswith((f"{run}-star0-1-rollout", f"{run}-star0-1-train"))
