"""What tests of the operator on a cluster share."""

from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.waiting import eventually

DEFINITION = Path(__file__).parents[2] / "crds/selfdistillruns.unisd.dev.yaml"


@pytest.fixture(scope="session")
def definition(cluster: Cluster) -> Cluster:
    """The shared cluster, with the CustomResourceDefinition and without an operator."""
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(DEFINITION))
    # Not `kubectl wait`, which fails on a definition whose conditions were not written yet. `get` makes kubectl look for
    # the kind anew; the API server publishes what `explain` reads a moment later.
    eventually(lambda: cluster.kubectl("get", "sdr", "-A") is not None)
    eventually(lambda: cluster.kubectl("explain", "sdr"))
    return cluster
