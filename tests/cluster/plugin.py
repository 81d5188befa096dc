"""Fixtures of the test cluster for all tests, and the marks of those that use one. See README.md."""

from collections.abc import Iterator

import pytest

from tests.cluster import images
from tests.cluster.cluster import Cluster
from tests.cluster.definition import define
from tests.cluster.node import NodeCluster
from tests.cluster.waiting import eventually

FIXTURES = {"cluster", "fresh_cluster", "kueue_cluster"}
NODE_FIXTURES = {"node_cluster"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever asks for a cluster carries the mark."""
    for item in items:
        if not isinstance(item, pytest.Function):
            continue
        if FIXTURES & set(item.fixturenames):
            item.add_marker("cluster")
        if NODE_FIXTURES & set(item.fixturenames):
            item.add_marker("node")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A cluster that the tests of this worker share: nobody stops its parts or leaves cluster-wide objects."""
    with Cluster() as running:
        yield running


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A fresh namespace of the shared cluster that enforces Pod Security `restricted`."""
    name = cluster.create_namespace()
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def definition(cluster: Cluster) -> Cluster:
    """The shared cluster, with the CustomResourceDefinition and without an operator."""
    define(cluster)
    eventually(lambda: cluster.kubectl("explain", "sdr"))  # the API server publishes it a moment later
    return cluster


@pytest.fixture(scope="session")
def kueue_cluster() -> Iterator[Cluster]:
    """Another shared cluster, with Kueue: the first one is without."""
    with Cluster() as running:
        running.start_kueue()
        yield running


@pytest.fixture
def fresh_cluster() -> Iterator[Cluster]:
    """A cluster of the test's own, for what would disturb others."""
    with Cluster() as running:
        yield running


@pytest.fixture(scope="session")
def node_cluster() -> Iterator[NodeCluster]:
    """A shared cluster with a real node, on which nothing is installed but the base image."""
    with NodeCluster() as running:
        for archive in (images.pause(), images.base()):
            running.load_image(archive)
        yield running
