"""The charts installed on a test cluster by the real Helm, and the real operator beside them under the chart's identity.

Nodes are simulated, so the pods of the chart's Deployment only pretend to run; the operator is a process of its own with
the token of the chart's ServiceAccount and the settings of the chart's ConfigMap.
"""

import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from unisd_operator.leader import EXIT_LOST

from tests.cluster.binaries import binary
from tests.cluster.cluster import Cluster
from tests.cluster.processes import Process
from tests.cluster.waiting import eventually
from tests.operator.charts.rendering import CRDS, NAMESPACE, OPERATOR, Values
from unisd.listening import free_ports

ROOT = Path(__file__).parents[3]
RELEASES = {"unisd-crds": (CRDS, "default"), "unisd-operator": (OPERATOR, NAMESPACE)}
ACCOUNT = f"system:serviceaccount:{NAMESPACE}:unisd-operator"
# The requirement (O8) is a minute for each way of uninstalling.
DEADLINE = 3 * 60


def helm(cluster: Cluster, *arguments: str | Path, values: Values | None = None) -> str:
    """Runs Helm on the cluster; fails with its own words."""
    given = ["--values", "-"] if values is not None else []
    command = [binary("helm"), f"--kubeconfig={cluster.kubeconfig}", *arguments, *given]
    environment = {**os.environ, "HELM_CACHE_HOME": str(cluster.folder), "HELM_CONFIG_HOME": str(cluster.folder)}
    ended = subprocess.run(
        command, input=json.dumps(values), env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def install(cluster: Cluster, release: str, values: Values | None = None) -> None:
    """Installs or upgrades one of the two charts and waits until its pods are ready."""
    chart, namespace = RELEASES[release]
    helm(
        cluster, "upgrade", "--install", release, chart, "-n", namespace, "--wait", "--timeout=10m", values=values or {}
    )


def uninstall(cluster: Cluster, release: str) -> str:
    """Uninstalls one of the two charts and waits until its objects are gone."""
    return helm(cluster, "uninstall", release, "-n", RELEASES[release][1], "--wait", f"--timeout={DEADLINE}s")


def operate(cluster: Cluster, name: str = "operator", **settings: Any) -> Process:
    """Starts the operator as the installed chart means it, and returns once it leads."""
    found = yaml.safe_load(cluster.json("get", "configmap", "unisd-operator", "-n", NAMESPACE)["data"]["settings.yaml"])
    port, health = free_ports(2)
    quick = {"port": port, "healthPort": health, "progressSeconds": 1.0, "resyncSeconds": 5.0}
    file = cluster.folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump({**found, **quick, **settings}), encoding="utf-8")
    kubeconfig = cluster.service_account_kubeconfig(NAMESPACE, "unisd-operator")
    env = {**os.environ, "PYTHONPATH": str(ROOT / "operator"), "KUBECONFIG": str(kubeconfig)}
    process = cluster.start(name, sys.executable, "-m", "unisd_operator", "--settings", str(file), env=env)
    eventually(lambda: leads(port) or not process.alive())
    assert process.alive(), process.log()
    return process


@contextmanager
def restarted(process: Process) -> Iterator[None]:
    """Within the block it begins anew, as under a kubelet, when it lost its Lease: the machine may stand still a while."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(1):
            if process.code() == EXIT_LOST:
                process.restart()

    kubelet = threading.Thread(target=look, name="kubelet", daemon=True)
    kubelet.start()
    try:
        yield
    finally:
        over.set()
        kubelet.join()


def leads(port: int) -> bool:
    """Whether the operator that serves its metrics here leads."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            return b"unisd_leader 1.0" in answer.read()
    except OSError:
        return False


Right = tuple[str, str, str]
"""API group, resource with subresource, verb."""


def granted(cluster: Cluster) -> set[Right]:
    """Everything that the chart's roles allow the operator."""
    roles = cluster.json("get", "roles,clusterroles", "-A", "-l", "app.kubernetes.io/name=unisd-operator")["items"]
    return {
        (group, resource, verb)
        for role in roles
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def used(events: list[Mapping[str, Any]]) -> set[Right]:
    """Every right that these requests took. A server-side apply that makes an object takes `create` and `patch`."""
    found: set[Right] = set()
    for event in events:
        about = event.get("objectRef", {})
        if "resource" not in about:
            continue
        resource = "/".join(filter(None, (about["resource"], about.get("subresource"))))
        right = (about.get("apiGroup", ""), resource)
        found.add((*right, event["verb"]))
        if event["verb"] == "patch" and event.get("responseStatus", {}).get("code") == 201:
            found.add((*right, "create"))
    return found


def denied(events: list[Mapping[str, Any]]) -> list[str]:
    """Requests that were refused for want of a right."""
    return [
        f"{event['verb']} {event['requestURI']}"
        for event in events
        if event.get("responseStatus", {}).get("code") == 403
    ]
