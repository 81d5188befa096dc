"""Leader election with two replicas and a Lease that is only a dict."""

import asyncio
import copy
from collections.abc import Callable
from typing import Any

import pytest
from unisd_operator import leader
from unisd_operator.cluster.client import ConflictError, NotFoundError, UnavailableError
from unisd_operator.leader import Leader

LASTS = 3600.0


class Leases:
    """An API server that holds one Lease."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0
        self.away = False

    async def get(self, kind: str, namespace: str, name: str) -> Any:
        self._answer()
        if self.lease is None:
            raise NotFoundError(name)
        return copy.deepcopy(self.lease)

    async def create(self, kind: str, namespace: str, body: Any) -> Any:
        self._answer()
        if self.lease is not None:
            raise ConflictError("exists")
        return self._store(body)

    async def replace(self, kind: str, namespace: str, body: Any) -> Any:
        self._answer()
        if body["metadata"]["resourceVersion"] != str(self.version):
            raise ConflictError("changed")
        return self._store(body)

    def _answer(self) -> None:
        if self.away:
            raise UnavailableError("away")

    def _store(self, body: Any) -> Any:
        self.version += 1
        self.lease = copy.deepcopy({**body, "metadata": {**body["metadata"], "resourceVersion": str(self.version)}})
        return self.lease

    @property
    def holder(self) -> Any:
        assert self.lease is not None
        return self.lease["spec"]["holderIdentity"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replicas try at once and have all the time of the world: a Lease runs out when a test says so."""
    monkeypatch.setattr(leader, "LEASE_SECONDS", LASTS)
    monkeypatch.setattr(leader, "RENEW_SECONDS", LASTS)
    monkeypatch.setattr(leader, "RETRY_SECONDS", 0.02)


def replica(name: str, elected: Callable[[], None] = lambda: None) -> Leader:
    return Leader(name, "unisd-system", "unisd-operator", elected)


def play(*replicas: Leader, leases: Leases, until: Callable[[], bool] = lambda: True) -> None:
    """Has replicas try until something is so, and some times more."""

    async def main() -> None:
        tasks = [asyncio.create_task(one.run(leases)) for one in replicas]  # type: ignore[arg-type]
        async with asyncio.timeout(120):
            while not until():
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())


def stop_watching(*replicas: Leader) -> None:
    """Ends their watchdogs, which would end this process."""
    for one in replicas:
        one._renewed = None


def test_one_of_two_leads_and_is_told_once() -> None:
    leases, told = Leases(), []
    first, second = replica("a", lambda: told.append("a")), replica("b", lambda: told.append("b"))
    play(first, second, leases=leases, until=lambda: bool(told))
    assert told == [leases.holder]
    assert first.leads != second.leads
    assert leases.lease is not None
    assert leases.lease["spec"]["leaseTransitions"] == 1
    stop_watching(first, second)


def test_a_lease_that_is_not_renewed_is_taken_over_once_it_has_run_out() -> None:
    leases = Leases()
    dead, heir = replica("dead"), replica("heir")
    play(dead, leases=leases, until=lambda: dead.leads)
    stop_watching(dead)
    play(heir, leases=leases)
    assert leases.holder == "dead"
    heir._seen_at -= LASTS
    play(heir, leases=leases, until=lambda: heir.leads)
    assert leases.holder == "heir"
    stop_watching(heir)


def test_a_lease_that_was_given_back_is_free_at_once() -> None:
    leases = Leases()
    first, second = replica("a"), replica("b")
    play(first, leases=leases, until=lambda: first.leads)
    asyncio.run(first.release(leases))  # type: ignore[arg-type]
    assert leases.holder == ""
    assert not first.leads
    play(second, leases=leases, until=lambda: second.leads)
    assert leases.holder == "b"
    stop_watching(second)


def test_a_replica_does_not_lead_while_the_api_server_is_away() -> None:
    leases = Leases()
    leases.away = True
    lonely = replica("a")
    play(lonely, leases=leases)
    assert not lonely.leads


def test_another_holders_lease_is_not_given_back() -> None:
    leases = Leases()
    first = replica("a")
    play(first, leases=leases, until=lambda: first.leads)
    assert leases.lease is not None
    leases.lease["spec"]["holderIdentity"] = "b"
    asyncio.run(first.release(leases))  # type: ignore[arg-type]
    assert leases.holder == "b"
