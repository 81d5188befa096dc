"""Files into a claim and results out of it on a real node: real pods, a real kubelet's exec, whoever runs them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.cluster import images
from tests.cluster.node import NodeCluster
from tests.e2e import runs

IMAGE = "unisd.test/trainer:1"
CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "own-data"},
    "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": ""},
}


def unisd(cluster: NodeCluster, namespace: str, *words: object) -> str:
    """Runs a command line against the node; returns what it prints."""
    command = [sys.executable, "-c", "from unisd.cli import main; main()", *map(str, words), "-n", namespace]
    environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture
def place(node_cluster: NodeCluster) -> str:
    """A namespace on a node that knows the image of runs and nothing else."""
    node_cluster.load_image(Path.home() / ".cache/unisd/images/trainer-d979ee2b4c46.tar")
    return node_cluster.create_namespace()


def test_own_data_arrives_in_a_claim(node_cluster: NodeCluster, place: str, tmp_path: Path) -> None:
    claim = node_cluster.add_volume("own-data", place)
    node_cluster.apply(CLAIM, namespace=place)
    model = tmp_path / "model"
    model.mkdir()
    (model / "weights").write_bytes(os.urandom(50_000_000))
    said = unisd(node_cluster, place, "upload", model, "own-data", "--to", "models/mine", "--image", IMAGE)
    assert "is in claim own-data as models/mine" in said
    assert (claim / "models/mine/weights").read_bytes() == (model / "weights").read_bytes()
    assert node_cluster.json("get", "pods", "-n", place)["items"] == []


def test_a_trained_adapter_comes_out_and_loads(node: NodeCluster, team: str, tiny_model: Path, tmp_path: Path) -> None:
    runs.start(node, team, runs.manifest("fetched", training={"maxSteps": 4}))
    runs.succeeds(node, team, "fetched")
    said = unisd(node, team, "fetch", "fetched", "--to", tmp_path)
    assert "sft-1: " in said
    assert "<html" in (tmp_path / "report/report.html").read_text()
    assert "| cos_e | accuracy |" in (tmp_path / "sft-1/README.md").read_text()
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "sft-1")
    model = PeftModel.from_pretrained(base, tmp_path / "sft-1")
    assert model(**tokenizer("hello", return_tensors="pt")).logits.isfinite().all()
