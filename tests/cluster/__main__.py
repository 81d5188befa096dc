"""`make cluster`: a cluster by hand, until Ctrl-C or SIGTERM."""

import argparse
import signal
import sys
from collections.abc import Sequence

from tests.cluster.binaries import binary
from tests.cluster.cluster import Cluster

STOP = {signal.SIGINT, signal.SIGTERM}


def main(arguments: Sequence[str]) -> None:
    """Starts what is asked for, says how to reach it, and waits."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    parser.add_argument("--nodes", type=int, default=1, help="simulated nodes (default 1)")
    parser.add_argument("--gpus", type=int, default=3, help="GPUs of each of them (default 3)")
    parser.add_argument("--kueue", action="store_true", help="with Kueue")
    asked = parser.parse_args(arguments)
    hold_signals()
    with Cluster() as cluster:
        for number in range(asked.nodes):
            cluster.add_fake_node(f"node-{number}", asked.gpus)
        cluster.add_volumes(20)
        if asked.kueue:
            cluster.start_kueue()
        stay(cluster)


def hold_signals() -> None:
    """From here on `stay` answers them, and nothing is ended in the middle of its start."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP)


def stay(cluster: Cluster, *hints: str) -> None:
    """Says how to reach a cluster, in words that a shell takes, and returns when it is to end."""
    print(f"export KUBECONFIG={cluster.kubeconfig}")
    print(f"export PATH={binary('kubectl').parent}:{binary('helm').parent}:$PATH")
    for hint in (*hints, f"audit log and logs: {cluster.folder}; Ctrl-C ends it"):
        print(f"# {hint}", flush=True)
    signal.sigwait(STOP)


if __name__ == "__main__":
    main(sys.argv[1:])
