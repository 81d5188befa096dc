"""Small runs on a real node: a model of random weights, one component that needs no servers, minutes at most."""

import json
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


def start(cluster: NodeCluster, namespace: str, given: Mapping[str, Any], rows: str | None = None) -> Path:
    """Applies a run with its rows; returns the folder behind its claim."""
    text = rows if rows is not None else ROWS.read_text(encoding="utf-8")
    data = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "rows"}, "data": {"rows.jsonl": text}}
    folder = cluster.add_volume(given["metadata"]["name"], namespace)
    cluster.apply(data, given, namespace=namespace)
    return folder


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
    return eventually(lambda: (reached := max(steps_of(folder, attempt), default=0)) > beyond and reached, within=240)


def succeeds(cluster: NodeCluster, namespace: str, name: str) -> dict[str, Any]:
    """Waits for the run's end, and that it is a good one; its status."""
    ended = eventually(
        lambda: (status := status_of(cluster, namespace, name)).get("phase") in ("Succeeded", "Failed") and status,
        within=400,
        every=1,
    )
    assert ended
    assert ended["phase"] == "Succeeded", json.dumps(ended, indent=1)
    return ended


def trainers(cluster: NodeCluster, namespace: str) -> dict[str, str]:
    """Uids of the trainer pods, by name."""
    found = cluster.json("get", "pods", "-n", namespace, "-l", "unisd.dev/role=train")["items"]
    return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in found}


def steps_of(folder: Path, attempt: int) -> list[int]:
    """Steps that an attempt has made so far or taken over, from the claim."""
    return [json.loads(line)["step"] for line in _lines(folder, attempt)]


def taken_over(folder: Path, attempt: int) -> int:
    """How many steps an attempt has from the one before: their figures, measured times included, are the same."""
    both = zip(_lines(folder, attempt - 1), _lines(folder, attempt), strict=False)
    return sum(1 for _ in takewhile(lambda lines: lines[0] == lines[1], both))


def _lines(folder: Path, attempt: int) -> list[str]:
    texts = [file.read_text() for file in folder.glob(f"runs/*/components/{ARM}/{attempt}/train/metrics.jsonl")]
    return [line for text in texts for line in text[: text.rfind("\n") + 1].splitlines()]
