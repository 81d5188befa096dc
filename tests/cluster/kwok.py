"""Simulated nodes and what their pods do, by kwok; `Cluster.add_fake_node` is how tests get one. Runs nothing itself."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.cluster.binaries import binary, module_folder

if TYPE_CHECKING:
    from tests.cluster.cluster import Cluster

FAKE = "kwok.x-k8s.io/node"
STAGES = Path(__file__).parent / "stages.yaml"
# kwok's own, for nodes; those for pods are ours, since its own let the pods of Jobs succeed at once.
NODE_STAGES = ("fast/node-initialize.yaml", "heartbeat-with-lease/node-heartbeat-with-lease.yaml")


def start(cluster: "Cluster") -> None:
    """Starts kwok for the nodes that carry its annotation."""
    serving = cluster.authority.server("kwok", f"IP:{cluster.address}")
    kubeconfig = cluster.user_kubeconfig("system:kwok", ["system:masters"])
    stages = module_folder("kwok", "sigs.k8s.io/kwok") / "kustomize/stage/node"
    logs = cluster.folder / "logs.yaml"
    logs.write_text(LOGS.format(file=log_file(cluster.folder), folder=cluster.folder))
    write_log(cluster.folder, "")
    programs = _programs(cluster.folder)
    cluster.start(
        "kwok",
        binary("kwok"),
        f"--kubeconfig={kubeconfig}",
        *(f"--config={file}" for file in (STAGES, logs, *(stages / name for name in NODE_STAGES))),
        "--manage-all-nodes=false",
        f"--manage-nodes-with-annotation-selector={FAKE}=fake",
        f"--node-ip={cluster.address}",
        "--node-port=10250",
        f"--server-address={cluster.address}:10250",
        f"--tls-cert-file={serving.certificate}",
        f"--tls-private-key-file={serving.key}",
        env={"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"},
    )


LOGS = """apiVersion: kwok.x-k8s.io/v1alpha1
kind: ClusterLogs
metadata: {{name: every-container}}
spec:
  logs: [{{logsFile: {file}}}]
---
apiVersion: kwok.x-k8s.io/v1alpha1
kind: ClusterExec
metadata: {{name: every-container}}
spec:
  execs: [{{local: {{workDir: {folder}}}}}]
"""
# Commands in pods run on this machine: what they take for the claim is a folder.
UNISD = """#!{python}
import sys
from unisd.cli import main
main([word.replace("/data", "{claim}", 1) if word.startswith("/data") else word for word in sys.argv[1:]])
"""


def claim_folder(folder: Path) -> Path:
    """What `unisd`, run in any pod, finds at `/data`."""
    return folder / "claim"


def _programs(folder: Path) -> Path:
    """The folder of what pods can run beside this machine's own programs."""
    programs = folder / "programs"
    programs.mkdir()
    claim_folder(folder).mkdir()
    script = programs / "unisd"
    script.write_text(UNISD.format(python=sys.executable, claim=claim_folder(folder)))
    script.chmod(0o755)
    return programs


def log_file(folder: Path) -> Path:
    """What every container has printed."""
    return folder / "containers.log"


def write_log(folder: Path, text: str) -> None:
    """Writes it as container engines do: time, stream, `F` for a full line."""
    lines = (f"2026-01-01T00:00:00.000000000Z stdout F {line}\n" for line in text.splitlines())
    log_file(folder).write_text("".join(lines))


def node(name: str, address: str, gpus: int, labels: Mapping[str, str]) -> dict[str, Any]:
    """A node for kwok: large, but for its `gpus`.

    Both kinds of address are given: kwok removes all of them when it misses one, and logs can no longer be read.
    """
    resources = {
        "cpu": "256",
        "memory": "2Ti",
        "pods": "1000",
        "ephemeral-storage": "10Ti",
        "nvidia.com/gpu": str(gpus),
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {FAKE: "fake"},
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                **labels,
            },
        },
        "status": {
            "capacity": resources,
            "allocatable": resources,
            "addresses": [{"type": kind, "address": address} for kind in ("InternalIP", "Hostname")],
        },
    }


def schedulable(node: Mapping[str, Any]) -> bool:
    """Whether the node is Ready, and known to be so by those who taint nodes."""
    conditions = node.get("status", {}).get("conditions", ())
    ready = any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
    return ready and not node["spec"].get("taints")


def volume(name: str, size: str) -> dict[str, Any]:
    """A volume without a class, for any claim without one."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": size},
            "accessModes": ["ReadWriteOnce", "ReadWriteMany", "ReadOnlyMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": "/nowhere"},
        },
    }
