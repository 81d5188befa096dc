"""`make cluster`: a cluster by hand, until Ctrl-C or SIGTERM."""

import argparse
import signal
import sys
from collections.abc import Sequence

from tests.cluster import images
from tests.cluster.binaries import binary
from tests.cluster.cluster import Cluster
from tests.cluster.node import NodeCluster


def main(arguments: Sequence[str]) -> None:
    """Starts what is asked for, says how to reach it, and waits."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    parser.add_argument("--nodes", type=int, default=1, help="simulated nodes (default 1)")
    parser.add_argument("--gpus", type=int, default=3, help="GPUs of each of them (default 3)")
    parser.add_argument("--kueue", action="store_true", help="with Kueue")
    parser.add_argument("--node", action="store_true", help="one real node instead, with the base image (as root)")
    asked = parser.parse_args(arguments)
    stop = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop)  # handled below, and never in the middle of a start
    with NodeCluster(asked.gpus) if asked.node else Cluster() as cluster:
        if isinstance(cluster, NodeCluster):
            cluster.load_image(images.pause())
            cluster.load_image(images.base())
        else:
            _simulate(cluster, asked.nodes, asked.gpus)
        if asked.kueue:
            cluster.start_kueue()
        print(f"export KUBECONFIG={cluster.kubeconfig}")
        print(f"export PATH={binary('kubectl').parent}:{binary('helm').parent}:$PATH")
        print(f"# audit log and logs: {cluster.folder}; Ctrl-C ends it", flush=True)
        signal.sigwait(stop)


def _simulate(cluster: Cluster, nodes: int, gpus: int) -> None:
    for number in range(nodes):
        cluster.add_fake_node(f"node-{number}", gpus)
    cluster.add_volumes(20)


if __name__ == "__main__":
    main(sys.argv[1:])
