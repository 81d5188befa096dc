"""Small runs on a real node: a model of random weights, one component that needs no servers, minutes at most."""

import json
import signal
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

from tests.cluster.node import NodeCluster
from tests.cluster.waiting import eventually
from tests.e2e.installation import with_packages

ROWS = Path(__file__).parents[2] / "examples/data/cos_e/train.jsonl"
SMALL = {"requests": {"cpu": "100m", "memory": "512Mi"}}
ARM = "sft-1"
SERVED_ARM = "it-1"
# Blocks of a run whose one component samples from vLLM, for one trainer pod; `served` is a model that vLLM takes.
SERVED = {
    "model": {"claim": {"name": "models", "path": "served"}, "lora": {"rank": 4, "alpha": 8}},
    "rollout": {"engine": "vllm", "enforceEager": True, "resources": SMALL},
    "trainer": {"numNodes": 1},
    "components": [{"name": "it", "divergence": {}}],
}
# To all processes of a container but the first, which has launched the others, and the one that asks.
_SIGNAL = (
    "import os; [os.kill(int(p), {}) for p in os.listdir('/proc') if p.isdigit() and p not in ('1', str(os.getpid()))]"
)


def manifest(name: str, **blocks: Any) -> dict[str, Any]:
    """A run of plain fine-tuning on two trainer pods; keyword arguments go on top of blocks of its spec."""
    spec: dict[str, Any] = {
        "model": {"claim": {"name": "models", "path": "tiny"}, "lora": {"rank": 4, "alpha": 8}},
        "task": {
            "name": "cos_e",
            "source": {"configMap": {"name": "rows", "key": "rows.jsonl"}},
            "maxTrainExamples": 40,
            "maxEvalExamples": 8,
        },
        "contexts": {"retriever": "bm25"},
        "training": {
            "epochs": 1000,
            "maxSteps": 150,
            "checkpointEverySteps": 5,
            "perDeviceBatchSize": 2,
            "gradientAccumulationSteps": 1,
            "maxPromptTokens": 1500,
            "maxCompletionTokens": 8,
            "precision": "float32",
        },
        "preparation": {"resources": SMALL},
        "rollout": {"engine": "transformers"},
        "trainer": {"numNodes": 2, "resourcesPerNode": SMALL},
        "evaluation": {"resources": SMALL},
        "components": [{"name": "sft", "preset": "sft"}],
    }
    for block, value in blocks.items():
        spec[block] = {**spec[block], **value} if isinstance(value, dict) and block in spec else value
    kind = {"apiVersion": "unisd.dev/v1alpha1", "kind": "SelfDistillRun"}
    return with_packages({**kind, "metadata": {"name": name}, "spec": spec})


def start(
    cluster: NodeCluster, namespace: str, given: Mapping[str, Any], rows: str | None = None, mib: int | None = None
) -> Path:
    """Applies a run with its rows; returns the folder behind its claim, which holds no more than `mib`."""
    text = rows if rows is not None else ROWS.read_text(encoding="utf-8")
    folder = cluster.add_volume(given["metadata"]["name"], namespace, mib)
    cluster.apply(config_map("rows", {"rows.jsonl": text}), given, namespace=namespace)
    return folder


def config_map(name: str, data: Mapping[str, str]) -> dict[str, Any]:
    """A ConfigMap."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": dict(data)}


def suspend(cluster: NodeCluster, namespace: str, name: str, value: bool) -> None:
    """Sets spec.suspend; of a run to be suspended waits until it holds no pod and its component says so."""
    patch = json.dumps({"spec": {"suspend": value}})
    cluster.kubectl("patch", "sdr", name, "-n", namespace, "--type=merge", "-p", patch)
    if value:
        eventually(lambda: not trainers(cluster, namespace), within=240)
        eventually(lambda: component_of(status_of(cluster, namespace, name))["phase"] == "Suspended")


def send(cluster: NodeCluster, namespace: str, pod: str, which: signal.Signals, container: str | None = None) -> None:
    """Sends a signal to the processes in one pod's container, its first without one named; never to the first process."""
    where = ("-c", container) if container else ()
    cluster.kubectl("exec", pod, "-n", namespace, *where, "--", "python", "-c", _SIGNAL.format(which.value))


def status_of(cluster: NodeCluster, namespace: str, name: str) -> dict[str, Any]:
    """The run's status."""
    status: dict[str, Any] = cluster.json("get", "sdr", name, "-n", namespace).get("status", {})
    return status


def component_of(status: Mapping[str, Any], name: str = ARM) -> dict[str, Any]:
    """A component's part of a status; empty if it has none yet."""
    found: list[dict[str, Any]] = status.get("components", [])
    return next((one for one in found if one["name"] == name), {})


def trains(folder: Path, attempt: int = 1, beyond: int = 5) -> int:
    """Waits until an attempt has gone beyond a step, as the claim tells; the step it has reached."""
    return eventually(lambda: (reached := max(steps_of(folder, attempt), default=0)) > beyond and reached, within=600)


def succeeds(cluster: NodeCluster, namespace: str, name: str, within: float = 900) -> dict[str, Any]:
    """Waits for the run's end, and that it is a good one; its status."""
    return _ends(cluster, namespace, name, "Succeeded", within)


def fails(cluster: NodeCluster, namespace: str, name: str) -> dict[str, Any]:
    """Waits for the run's end, and that it is a bad one; its status."""
    return _ends(cluster, namespace, name, "Failed", within=900)


def _ends(cluster: NodeCluster, namespace: str, name: str, phase: str, within: float) -> dict[str, Any]:
    ended = eventually(
        lambda: (status := status_of(cluster, namespace, name)).get("phase") in ("Succeeded", "Failed") and status,
        within=within,
        every=1,
    )
    assert ended
    assert ended["phase"] == phase, json.dumps(ended, indent=1)
    return ended


def failure_of(cluster: NodeCluster, namespace: str, name: str, arm: str = ARM) -> dict[str, Any]:
    """The first failure that the run tells, of a stage or of its component."""

    def failure() -> dict[str, Any] | None:
        status = status_of(cluster, namespace, name)
        parts = [*status.get("stages", []), component_of(status, arm)]
        return next((part["failure"] for part in parts if part.get("failure")), None)

    found = eventually(failure, within=600, every=1)
    assert found
    return found


def trainers(cluster: NodeCluster, namespace: str) -> dict[str, str]:
    """Uids of the trainer pods, by name: the first is that of the first process."""
    found = pods_of(cluster, namespace, "train")
    return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in found}


def pods_of(cluster: NodeCluster, namespace: str, role: str) -> list[dict[str, Any]]:
    """Pods of a role, by name."""
    found: list[dict[str, Any]] = cluster.json("get", "pods", "-n", namespace, "-l", f"unisd.dev/role={role}")["items"]
    return sorted(found, key=lambda pod: str(pod["metadata"]["name"]))


def training_folder(folder: Path, attempt: int = 1) -> Path:
    """Where an attempt keeps metrics and checkpoints, from the folder behind the claim."""
    (found,) = folder.glob(f"runs/*/components/{ARM}/{attempt}/train")
    return found


def metrics_of(folder: Path, attempt: int, arm: str = ARM) -> list[dict[str, Any]]:
    """What an attempt has told of each step so far, steps that it has taken over included, from the claim."""
    files = folder.glob(f"runs/*/components/{arm}/{attempt}/train/metrics.jsonl")
    texts = [file.read_text() for file in files]
    # The last line may still be on its way.
    return [json.loads(line) for text in texts for line in text[: text.rfind("\n") + 1].splitlines()]


def steps_of(folder: Path, attempt: int) -> list[int]:
    """Steps that an attempt has made so far or taken over."""
    return [line["step"] for line in metrics_of(folder, attempt)]


def taken_over(folder: Path, attempt: int) -> int:
    """How many steps an attempt has from the one before: their figures, measured times included, are the same."""
    both = zip(metrics_of(folder, attempt - 1), metrics_of(folder, attempt), strict=False)
    return sum(1 for _ in takewhile(lambda lines: lines[0] == lines[1], both))
