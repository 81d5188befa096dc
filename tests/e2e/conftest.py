"""The node that end-to-end tests share, with the operator on it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.make_tiny_model import make_tiny_model
from tests.cluster.node import NodeCluster
from tests.e2e.installation import gather_models, prepare_namespace, prepare_node


@pytest.fixture(scope="session")
def node(node_cluster: NodeCluster) -> NodeCluster:
    """The node, both charts installed on it by Helm, the operator at work in a pod."""
    prepare_node(node_cluster)
    return node_cluster


@pytest.fixture(scope="session")
def models(node: NodeCluster, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models: the one that travels in a package, and two with random weights.

    vLLM takes no heads as small as those of `tiny`: `served` has larger ones.
    """
    sizes = {"hidden_size": 128, "num_attention_heads": 2, "num_key_value_heads": 1}
    served = make_tiny_model(tmp_path_factory.mktemp("model") / "served", **sizes)
    return gather_models(node.folder / "models", tiny_model, served)


@pytest.fixture
def team(node: NodeCluster, models: Path) -> Iterator[str]:
    """A namespace for runs, where Pod Security `restricted` is enforced."""
    namespace = prepare_namespace(node, models)
    yield namespace
    node.kubectl("delete", "namespace", namespace, "--wait=false")
