"""The resource SelfDistillRun on a test cluster."""

from pathlib import Path

from tests.cluster.cluster import Cluster
from tests.cluster.waiting import eventually

CRD = Path(__file__).parents[2] / "crds/selfdistillruns.unisd.dev.yaml"


def define(cluster: Cluster) -> None:
    """Makes the resource known, and waits until it is."""
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRD))
    # Not `kubectl wait`, which fails on a definition whose conditions were not written yet. `get` makes kubectl look for
    # the kind anew.
    eventually(lambda: cluster.kubectl("get", "sdr", "-A") is not None)
