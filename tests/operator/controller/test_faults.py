"""Requirement O4: the operator is killed after single calls that it makes, starts again, and everything converges."""

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.waiting import eventually
from tests.operator.controller.harness import Operator, children, ends, install, manifest
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


def undisturbed(cluster: Cluster, name: str) -> tuple[Any, Any, int]:
    """What a run leaves behind if nobody is killed, and how many calls that takes."""
    killer = Killer(-1)
    namespace = cluster.create_namespace()
    with Proxy(cluster, f"operator-{name}", killer.after) as proxy:
        operator = Operator(cluster, name, proxy.server, leaderElection=False)
        cluster.apply(manifest("run", trains="0.2s"), namespace=namespace)
        ends(cluster, namespace, "run", within=90)
        eventually(lambda: settled(cluster, namespace))
        operator.process.stop()
    return summary(cluster, namespace), pods(cluster, namespace), killer.calls


def settled(cluster: Cluster, namespace: str) -> bool:
    """Whether what does not outlive the run is gone."""
    return not children(cluster, namespace, "deployments,services,networkpolicies,secrets")


def test_killed_after_any_call_it_converges(faulty: Cluster) -> None:
    wanted, wanted_pods, calls = undisturbed(faulty, "undisturbed")
    assert calls > 20
    for nth in range(1, calls + 1, STEP):
        killer = Killer(nth)
        namespace = faulty.create_namespace()
        with Proxy(faulty, f"operator-{nth}", killer.after) as proxy:
            operator = Operator(faulty, f"killed-{nth}", proxy.server, leaderElection=False)
            killer.kill = lambda operator=operator: operator.process.signal(signal.SIGKILL)
            faulty.apply(manifest("run", trains="0.2s"), namespace=namespace)
            if not killer.killed.wait(60):  # events that come together save a turn: this time there were fewer calls
                assert nth > 0.8 * calls, f"call {nth} of {calls} never came: {operator.process.log()[-3000:]}"
            operator.process.restart()
            ends(faulty, namespace, "run", within=90)
            eventually(lambda namespace=namespace: settled(faulty, namespace))
            operator.process.stop()
        assert summary(faulty, namespace) == wanted, f"killed after call {nth}, {killer.last}"
        assert pods(faulty, namespace) == wanted_pods, f"killed after call {nth}, {killer.last}"
