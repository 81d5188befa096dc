"""Requirements O5 and O6: two replicas, one killed, stopped or cut off; a watch that hears nothing any more."""

import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.waiting import eventually
from tests.operator.controller.harness import SYSTEM, Operator, install, manifest, status, wishes
from tests.operator.controller.proxy import Proxy

pytestmark = pytest.mark.cluster

FAILOVER = 20.0
LENIENCY = 3
WRITES = {"create", "update", "patch", "delete"}


@pytest.fixture(scope="module")
def quiet() -> Iterator[Cluster]:
    """A cluster without an operator."""
    with Cluster() as running:
        install(running)
        running.add_volumes(20)
        yield running


@pytest.fixture
def namespace(quiet: Cluster) -> Iterator[str]:
    """A namespace for one test's runs; the Lease is gone afterwards."""
    name = quiet.create_namespace()
    yield name
    quiet.kubectl("delete", "sdr", "--all", "-n", name)
    quiet.kubectl("delete", "lease", "--all", "-n", SYSTEM)


@pytest.fixture
def pair(quiet: Cluster, request: pytest.FixtureRequest) -> Iterator[tuple[Operator, Operator, Proxy]]:
    """A leader behind a proxy of its own, a standby, and the leader's proxy."""
    test = request.node.name.replace("_", "-")[:40]
    with Proxy(quiet, f"old-{test}") as old, Proxy(quiet, f"new-{test}") as new:
        first = Operator(quiet, f"old-{test}", old.server)
        eventually(first.leads)
        second = Operator(quiet, f"new-{test}", new.server)
        eventually(lambda: second.metric("unisd_leader") == 0 if _serves(second) else None)
        yield first, second, old
        for replica in (first, second):
            if replica.process.alive():
                replica.process.kill()


def _serves(replica: Operator) -> bool:
    try:
        return bool(replica.metrics())
    except OSError:
        return False


def writes(cluster: Cluster, user: str, since: int) -> list[tuple[str, str, int]]:
    """What a user changed or tried to: resource, name, answer; the Lease aside."""
    return [
        (event["objectRef"]["resource"], event["objectRef"].get("name", ""), event["responseStatus"]["code"])
        for event in cluster.audit(since=since)
        if event.get("impersonatedUser", {}).get("username") == user
        and event["verb"] in WRITES
        and event["objectRef"]["resource"] != "leases"
    ]


def begins(cluster: Cluster, namespace: str, name: str) -> Any:
    """Whether a run has its first Job."""
    return status(cluster, namespace, name).get("phase") in ("Preparing", "Running")


def test_a_killed_leader_is_replaced(quiet: Cluster, namespace: str, pair: tuple[Operator, Operator, Proxy]) -> None:
    first, second, _ = pair
    first.process.signal(signal.SIGKILL)
    died = time.monotonic()
    quiet.apply(manifest("after"), namespace=namespace)
    eventually(lambda: begins(quiet, namespace, "after"), within=FAILOVER * LENIENCY)
    print(f"first write of the new leader {time.monotonic() - died:.1f} s after the old one's death")
    assert second.leads()


def test_a_leader_that_ends_well_gives_the_lease_back(
    quiet: Cluster, namespace: str, pair: tuple[Operator, Operator, Proxy]
) -> None:
    first, second, _ = pair
    before = holder(quiet)
    assert first.process.stop() == 0
    assert holder(quiet) != before, "it would run out by itself, later"
    eventually(second.leads)


def holder(cluster: Cluster) -> str:
    """Who has the Lease; empty if it was given back."""
    found: str = cluster.json("get", "lease", "unisd-operator", "-n", SYSTEM)["spec"]["holderIdentity"]
    return found


def test_a_stopped_and_cut_off_leader_changes_nothing_afterwards(
    quiet: Cluster, namespace: str, pair: tuple[Operator, Operator, Proxy]
) -> None:
    """SIGSTOP for 30 s in the middle of work, and a connection that is frozen for the leader alone."""
    first, second, proxy = pair
    quiet.apply(*(manifest(f"busy-{index}", trains=None) for index in range(5)), namespace=namespace)
    eventually(lambda: begins(quiet, namespace, "busy-0"))
    proxy.freeze()
    first.process.signal(signal.SIGSTOP)
    stopped = time.monotonic()
    eventually(second.leads, within=FAILOVER * LENIENCY)
    print(f"the new one leads {time.monotonic() - stopped:.1f} s after the old one was stopped")
    for index in range(5):
        eventually(lambda index=index: _trains(quiet, namespace, f"busy-{index}"))
    time.sleep(max(0.0, 30 - (time.monotonic() - stopped)))
    before = wishes(quiet, namespace)
    since = quiet.audit_position()
    first.process.signal(signal.SIGCONT)
    proxy.thaw()
    resumed = time.monotonic()
    eventually(lambda: not first.process.alive(), within=1.0 * LENIENCY, every=0.02)
    print(f"the old one ended {time.monotonic() - resumed:.2f} s after it ran again")
    time.sleep(3)
    late = writes(quiet, proxy.user, since)
    print("late writes of the old one:", late)
    assert wishes(quiet, namespace) == before, late
    assert not [write for write in late if write[0] == "selfdistillruns" and write[2] < 300]
    assert second.leads()


def test_a_watch_that_hears_nothing_heals(quiet: Cluster, namespace: str) -> None:
    with Proxy(quiet, "deaf") as proxy:
        operator = Operator(quiet, "deaf", proxy.server, leaderElection=False)
        quiet.apply(manifest("before"), namespace=namespace)
        eventually(lambda: begins(quiet, namespace, "before"))
        proxy.deafen()
        begun = time.monotonic()
        quiet.apply(manifest("unheard"), namespace=namespace)
        eventually(lambda: begins(quiet, namespace, "unheard"), within=90 * LENIENCY, every=0.5)
        print(f"healed after {time.monotonic() - begun:.1f} s")
        operator.process.kill()


def _trains(cluster: Cluster, namespace: str, name: str) -> bool:
    """Whether a run has come to where it stays: its training does not end."""
    components = status(cluster, namespace, name).get("components", [])
    return bool(components) and components[0]["phase"] == "Training"
