"""`make cluster NODE=1`: a real node by hand, with the operator on it and a namespace for runs, until Ctrl-C or SIGTERM.

`python -m tests.e2e FILE` prints the run of a manifest as pods on that node can carry it out, and starts nothing.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from tests.cluster.__main__ import hold_signals, stay
from tests.cluster.node import NodeCluster
from tests.cluster.node_components import written
from tests.e2e.installation import gather_models, prepare_namespace, prepare_node, with_packages

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMESPACE = "runs"


def main(arguments: Sequence[str]) -> None:
    """Prints a manifest, or starts the node, says how to reach it, and waits."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e", description=__doc__)
    parser.add_argument("manifest", nargs="?", type=Path, help="a run to print")
    asked = parser.parse_args(arguments)
    if asked.manifest:
        print(fitted(asked.manifest), end="")
        return
    hold_signals()
    with NodeCluster() as cluster:
        prepare(cluster)
        example = written(cluster.folder / "e2e.yaml", fitted(EXAMPLES / "e2e.yaml"))
        stay(
            cluster,
            f"a run: kubectl apply -f {example} && kubectl get sdr -w",
            f"your own: {sys.executable} -m tests.e2e run.yaml | kubectl apply -f -",
        )


def prepare(cluster: NodeCluster) -> None:
    """The operator at work; in the namespace that kubectl uses, what examples/e2e.yaml asks for."""
    prepare_node(cluster)
    prepare_namespace(cluster, gather_models(cluster.folder / "models"), NAMESPACE)
    cluster.add_volumes(10)
    rows = EXAMPLES / "data/cos_e/train.jsonl"
    cluster.kubectl("create", "configmap", "e2e-rows", "-n", NAMESPACE, f"--from-file=rows.jsonl={rows}")
    cluster.kubectl("config", "set-context", "--current", f"--namespace={NAMESPACE}")


def fitted(manifest: Path) -> str:
    """The manifest, with the volumes that hold what its pods import."""
    return yaml.safe_dump(with_packages(yaml.safe_load(manifest.read_text(encoding="utf-8"))), sort_keys=False)


if __name__ == "__main__":
    main(sys.argv[1:])
