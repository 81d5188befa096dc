"""Fixtures of the test cluster for all tests, and the mark `cluster` for those that use one. See README.md."""

from collections.abc import Iterator

import pytest

from tests.cluster.cluster import Cluster

FIXTURES = {"cluster", "fresh_cluster", "kueue_cluster"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever asks for a cluster carries the mark."""
    for item in items:
        if isinstance(item, pytest.Function) and FIXTURES & set(item.fixturenames):
            item.add_marker("cluster")


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
