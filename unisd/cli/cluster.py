"""What the commands that reach a cluster share: which one is meant, and what is said of trouble with it."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from unisd.cli.console import complain

if TYPE_CHECKING:
    from unisd.remote.cluster import Cluster


def add_cluster(parser: "argparse.ArgumentParser | argparse._ArgumentGroup") -> None:
    """Tells the parser of the options that name a namespace of a cluster."""
    parser.add_argument("-n", "--namespace", help="default: that of the kubeconfig's context")
    parser.add_argument("--context", help="context of the kubeconfig; default: the current one")


def on_cluster(options: argparse.Namespace, work: "Callable[[Cluster], int]") -> int:
    """Has work done on the cluster that the options name; its exit code, or 1 for trouble, which is told."""
    from unisd.parcel import ParcelError
    from unisd.remote.cluster import Cluster, ClusterError

    try:
        return work(Cluster(options.namespace, options.context))
    except (ClusterError, ParcelError) as error:
        complain(str(error))
        return 1
