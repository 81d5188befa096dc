"""What a test sees of a run while it is under way: lines of `kubectl get -w`, and what its vLLM servers have answered."""

import re
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.cluster.binaries import binary
from tests.cluster.node import NodeCluster

METRICS = 9400
ANSWERED = re.compile(r"^vllm:request_success_total\{[^}]*\} (\S+)$", re.MULTILINE)


class Watch:
    """Keeps what is gone when the run has ended."""

    def __init__(self, cluster: NodeCluster, namespace: str):
        self._cluster, self._namespace = cluster, namespace
        self._ended = threading.Event()
        self.answered: dict[str, int] = {}
        """Requests that vLLM answered, by component with its seed; `contexts` for those of no component."""
        self._latest: dict[str, int] = {}
        command = (binary("kubectl"), f"--kubeconfig={cluster.kubeconfig}", "get", "sdr", "-n", namespace, "-w")
        self._lines = cluster.start(f"watch-{namespace}", *command)
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    @property
    def lines(self) -> str:
        """What `kubectl get sdr -w` has printed so far."""
        return self._lines.log()

    def end(self) -> None:
        """Stops looking."""
        self._ended.set()
        self._thread.join()
        self._lines.kill()

    def _look(self) -> None:
        while not self._ended.wait(3):
            if not self._lines.alive():  # the API server ends a watch after half an hour or more
                self._lines.restart()
            try:
                self._count()
            except (AssertionError, OSError):
                continue  # between two pods, or while the API server is busy
            totals: dict[str, int] = {}
            for key, count in self._latest.items():
                arm = key.partition(" ")[0]
                totals[arm] = totals.get(arm, 0) + count
            self.answered = totals

    def _count(self) -> None:
        role = ("-l", "unisd.dev/role=rollout", "-n", self._namespace)
        for pod in self._cluster.json("get", "pods", *role)["items"]:
            address = pod["status"].get("podIP")
            if address:
                with urllib.request.urlopen(f"http://{address}:{METRICS}/metrics", timeout=15) as answer:
                    found = ANSWERED.findall(answer.read().decode())
                key = key_of(pod)  # a server that ends takes its count away before its agent does
                self._latest[key] = max(self._latest.get(key, 0), int(sum(map(float, found))))


def key_of(pod: dict[str, Any]) -> str:
    """A server by whom it serves."""
    labels = pod["metadata"]["labels"]
    return f"{labels.get('unisd.dev/arm') or labels.get('unisd.dev/stage')} {pod['metadata']['name']}"


@contextmanager
def watched(cluster: NodeCluster, namespace: str) -> Iterator[Watch]:
    """Looks at the runs of a namespace until the end of the block."""
    watch = Watch(cluster, namespace)
    try:
        yield watch
    finally:
        watch.end()
