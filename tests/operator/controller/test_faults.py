"""Requirement O4: the operator is killed after single calls that it makes, starts again, and everything converges."""

import itertools
import os
import signal
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.waiting import eventually
from tests.operator.controller.harness import Operator, children, install, manifest, status
from tests.operator.controller.proxy import Proxy

pytestmark = pytest.mark.cluster

# `make e2e-full` kills after every single call; `make test` after one in so many.
STEP = 1 if os.environ.get("UNISD_E2E_FULL") else 9
WRITES = {"POST", "PATCH", "PUT", "DELETE"}


@pytest.fixture(scope="module")
def faulty() -> Iterator[Cluster]:
    """A cluster whose operators get killed."""
    with Cluster() as running:
        install(running)
        running.add_volumes(100)
        yield running


class Killer:
    """Kills a process by SIGKILL once, after its n-th call, before it gets the answer."""

    def __init__(self, nth: int):
        self.nth, self.calls, self.kill = nth, 0, lambda: None
        self.killed = threading.Event()
        self.last = ""

    def after(self, method: str, path: str) -> None:
        """Counts a call; what is asked at each start and of the Lease is no call that changes anything."""
        if method not in WRITES or "/leases" in path:
            return
        self.calls += 1
        if self.calls == self.nth:
            self.last = f"{method} {path}"
            self.kill()
            self.killed.set()


def summary(cluster: Cluster, namespace: str) -> list[tuple[str, str]]:
    """Kinds and names of everything that is there but pods."""
    found = children(cluster, namespace)
    return sorted((item["kind"], item["metadata"]["name"]) for item in found if item["kind"] != "Pod")


def pods(cluster: Cluster, namespace: str) -> dict[str, int]:
    """How many pods there are for each Job, by role and attempt."""
    found: dict[str, int] = {}
    for item in children(cluster, namespace, "pods"):
        labels = item["metadata"]["labels"]
        key = f"{labels.get('unisd.dev/arm', '')}/{labels['unisd.dev/role']}/{labels['unisd.dev/attempt']}"
        found[key] = found.get(key, 0) + 1
    return found


def undisturbed(cluster: Cluster, name: str) -> tuple[Any, Any]:
    """What a run leaves behind if nobody is killed."""
    namespace = cluster.create_namespace()
    with Proxy(cluster, f"operator-{name}") as proxy:
        operator = Operator(cluster, name, proxy.server, leaderElection=False)
        cluster.apply(manifest("run", trains="0.2s"), namespace=namespace)
        eventually(lambda: settled(cluster, namespace), 240, every=0.3)
        operator.process.stop()
    return summary(cluster, namespace), pods(cluster, namespace)


def settled(cluster: Cluster, namespace: str) -> bool:
    """Whether the run has succeeded, and what does not outlive it is gone, the pods of its servers last."""
    if status(cluster, namespace, "run").get("phase") != "Succeeded":
        return False
    served = any("/rollout/" in pod for pod in pods(cluster, namespace))
    return not served and not children(cluster, namespace, "deployments,services,networkpolicies,secrets")


def test_killed_after_any_call_it_converges(faulty: Cluster) -> None:
    wanted, wanted_pods = undisturbed(faulty, "undisturbed")
    for nth in itertools.count(1, STEP):
        killer = Killer(nth)
        namespace = faulty.create_namespace()
        with Proxy(faulty, f"operator-{nth}", killer.after) as proxy:
            operator = Operator(faulty, f"killed-{nth}", proxy.server, leaderElection=False)
            killer.kill = lambda operator=operator: operator.process.signal(signal.SIGKILL)
            faulty.apply(manifest("run", trains="0.2s"), namespace=namespace)
            ended = partial(settled, faulty, namespace)
            eventually(lambda killer=killer, ended=ended: killer.killed.is_set() or ended(), 240, every=0.3)
            killed = killer.killed.is_set()
            operator.process.restart()
            eventually(ended, 240, every=0.3)
            operator.process.stop()
        assert summary(faulty, namespace) == wanted, f"killed after call {nth}, {killer.last}"
        assert pods(faulty, namespace) == wanted_pods, f"killed after call {nth}, {killer.last}"
        if not killed:  # it was over before
            assert nth > 20, operator.process.log()[-3000:]
            break
