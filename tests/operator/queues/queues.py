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
        add_local_queue(cluster, namespace, namespace)
    return namespace


def add_local_queue(cluster: Cluster, namespace: str, cluster_queue: str) -> None:
    """The LocalQueue of a namespace that has none yet."""
    cluster.apply(_kueue("LocalQueue", QUEUE, spec={"clusterQueue": cluster_queue}), namespace=namespace)


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

    return eventually(look, within=180, every=0.2)


def workload(cluster: Cluster, namespace: str, run: str) -> dict[str, Any]:
    """The Workload of a run of one component, its conditions by type."""
    items = cluster.json("get", "workloads", "-n", namespace, "-l", f"unisd.dev/run={run}")["items"]
    assert len(items) == 1, [item["metadata"]["name"] for item in items]
    found: dict[str, Any] = items[0]
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


def quota_follows_pods(cluster: Cluster, namespace: str, run: str, since: int) -> bool:
    """Whether the quota of an evicted run was given back once, and not before the last of its pods on GPUs had ended."""
    told = cluster.audit(since=since)
    name = workload(cluster, namespace, run)["metadata"]["name"]
    released = [index for index, event in enumerate(told) if _releases(event, namespace, name)]
    ended: dict[str, int] = {}
    for index, event in enumerate(told):
        if (pod := _ended_pod(event, namespace, run)) is not None:
            ended.setdefault(pod, index)
    assert len(released) == 1, f"released {len(released)} times"
    assert any("rollout" in pod for pod in ended), ended
    return max(ended.values()) < released[0]


def _releases(event: Mapping[str, Any], namespace: str, name: str) -> bool:
    at = event.get("objectRef", {})
    mine = tuple(at.get(key) for key in ("namespace", "resource", "subresource", "name"))
    body = event.get("requestObject") or {}
    ours = mine == (namespace, "workloads", "status", name) and "admission" in body.get("status", {})
    return ours and body["status"]["admission"] is None and event["responseStatus"]["code"] == 200


def _ended_pod(event: Mapping[str, Any], namespace: str, run: str) -> str | None:
    """The server's or trainer's pod that an event tells the end of: the node's last word, or the pod's deletion."""
    at = event.get("objectRef", {})
    of_node = event["user"]["username"] == "system:kwok" and event["verb"] in ("patch", "delete")
    if not of_node or (at.get("resource"), at.get("namespace")) != ("pods", namespace):
        return None
    return str(at["name"]) if at["name"].startswith((f"{run}-star0-1-rollout", f"{run}-star0-1-train")) else None
