"""The operator as a process on a test cluster, and runs whose pods end by themselves."""

import json
import os
import sys
import urllib.request
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.cluster.cluster import Cluster
from tests.cluster.definition import define
from tests.cluster.processes import Process
from tests.cluster.waiting import PATIENCE, eventually
from unisd.listening import free_ports

ROOT = Path(__file__).parents[3]
SYSTEM = "unisd-system"
# Every kind that the operator makes.
CHILDREN = "jobs,deployments,services,configmaps,secrets,networkpolicies,persistentvolumeclaims,pods"
LABEL = "app.kubernetes.io/managed-by=unisd-operator"
SCORES = [{"task": "gsm8k", "metric": "accuracy", "score": 0.5, "low": 0.4, "high": 0.6, "items": 100}]


def install(cluster: Cluster) -> None:
    """The resource, the operator's namespace, a node with GPUs, volumes."""
    define(cluster)
    cluster.create_namespace(SYSTEM)
    cluster.add_fake_node("node-a", gpus=64)
    cluster.add_volumes(8)


class Operator:
    """One replica of the operator."""

    def __init__(
        self,
        cluster: Cluster,
        name: str = "operator",
        server: str | None = None,
        user: str | None = None,
        **settings: Any,
    ):
        self.port, health = free_ports(2)
        folder = cluster.folder / name
        folder.mkdir()
        file = folder / "settings.yaml"
        file.write_text(yaml.safe_dump({"port": self.port, "healthPort": health, "progressSeconds": 1.0} | settings))
        self.health = f"http://127.0.0.1:{health}/healthz"
        kubeconfig = cluster.kubeconfig if server is None else _kubeconfig(folder, server)
        if user is not None:
            kubeconfig = cluster.user_kubeconfig(user, ["system:masters"])
        env = {**os.environ, "PYTHONPATH": str(ROOT / "operator"), "KUBECONFIG": str(kubeconfig)}
        command = (sys.executable, "-m", "unisd_operator", "--settings", str(file))
        self.process: Process = cluster.start(name, *command, env=env)

    def restarted_if_ended(self) -> bool:
        """Starts it again if it has ended, as a kubelet does; says whether it had."""
        if self.process.alive():
            return False
        self.process.restart()
        return True

    def metrics(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        """What it serves now, by name and sorted labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def metric(self, name: str, **labels: str) -> float | None:
        """One value; None if it is not served."""
        return self.metrics().get((name, tuple(sorted(labels.items()))))

    def leads(self) -> bool:
        """Whether this replica leads."""
        try:
            return self.metric("unisd_leader") == 1
        except OSError:
            return False


def _kubeconfig(folder: Path, server: str) -> Path:
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "proxy", "cluster": {"server": server}}],
        "users": [{"name": "operator", "user": {}}],
        "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "operator"}}],
        "current-context": "proxy",
    }
    path = folder / "kubeconfig.yaml"
    path.write_text(json.dumps(content))
    return path


def pod(after: str | None = "0.2s", result: Any = None, **annotations: str) -> dict[str, Any]:
    """A pod block whose pods succeed after a while, leaving a result."""
    ends = {} if after is None else {"test.unisd.dev/succeed-after": after}
    message = {} if result is None else {"test.unisd.dev/message": json.dumps({"result": result})}
    return {"pod": {"annotations": {**ends, **message, **annotations}}}


def manifest(name: str, components: int = 1, trains: str | None = "0.5s", **spec: Any) -> dict[str, Any]:
    """A run whose pods end by themselves."""
    return {
        "apiVersion": "unisd.dev/v1alpha1",
        "kind": "SelfDistillRun",
        "metadata": {"name": name},
        "spec": {
            "model": {"name": "Qwen/Qwen2.5-7B-Instruct"},
            "task": {"name": "gsm8k"},
            "components": [{"name": f"star{index}", "preset": "unisd_star"} for index in range(components)],
            "preparation": pod(),
            "trainer": pod(trains),
            "evaluation": pod(result={"evaluations": SCORES}),
            "storage": {"policy": "Delete"},
            **spec,
        },
    }


def status(cluster: Cluster, namespace: str, name: str) -> dict[str, Any]:
    """Status of a run."""
    found: dict[str, Any] = cluster.json("get", "sdr", name, "-n", namespace).get("status", {})
    return found


def ends(
    cluster: Cluster, namespace: str, name: str, phase: str = "Succeeded", within: float = PATIENCE
) -> dict[str, Any]:
    """Status of a run once it is in a phase."""

    def look() -> dict[str, Any]:
        now = status(cluster, namespace, name)
        assert now.get("phase") == phase, json.dumps(now)[-3000:]
        return now

    return eventually(look, within, every=0.3)


def finish_training(cluster: Cluster, namespace: str, run: str) -> None:
    """Ends a run's trainers, as their kubelet would."""
    selector = ("-l", f"unisd.dev/run={run},unisd.dev/role=train")
    cluster.kubectl("annotate", "pods", "-n", namespace, *selector, "--overwrite", "test.unisd.dev/succeed-after=10ms")


def wishes(cluster: Cluster, namespace: str) -> dict[str, Any]:
    """What the operator has asked for in a namespace: all of its children but what others report in status."""
    kinds = "jobs,deployments,services,configmaps,secrets,networkpolicies,persistentvolumeclaims"
    return {f"{item['kind']}/{item['metadata']['name']}": _wish(item) for item in children(cluster, namespace, kinds)}


def _wish(item: dict[str, Any]) -> dict[str, Any]:
    metadata = {name: value for name, value in item["metadata"].items() if name != "resourceVersion"}
    return {**{name: value for name, value in item.items() if name != "status"}, "metadata": metadata}


def children(cluster: Cluster, namespace: str, kinds: str = CHILDREN) -> list[dict[str, Any]]:
    """The operator's children in a namespace."""
    found: list[dict[str, Any]] = cluster.json("get", kinds, "-n", namespace, "-l", LABEL)["items"]
    return found
