"""What a resync asks the API server for, and what it makes of the answers."""

import asyncio
from contextlib import suppress

import pytest
from unisd_operator.api.resource import Key
from unisd_operator.cluster.store import Store
from unisd_operator.handlers import Watches
from unisd_operator.metrics import Metrics
from unisd_operator.process import Operator
from unisd_operator.queue import WorkQueue
from unisd_operator.reconcile import World
from unisd_operator.settings import Settings

from tests.operator.cluster.test_store import child, run

OURS = "app.kubernetes.io/managed-by=unisd-operator"


class Lists:
    """Everything is installed; no list holds anything."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str | None, bool]] = []

    async def has(self, kind: str) -> bool:
        return True

    async def uids(self, kind: str, selector: str, namespace: str | None, one: bool) -> frozenset[str]:
        self.asked.append((kind, selector, namespace, one))
        return frozenset()


@pytest.mark.parametrize(("namespaces", "places"), [([], [None]), (["a", "b"], ["a", "b"])])
def test_lists_are_asked_for_where_the_operator_watches(namespaces: list[str], places: list[str | None]) -> None:
    lists, store, settings = Lists(), Store("nvidia.com/gpu"), Settings(namespaces=namespaces)
    store.put_run(run(5))
    store.put("Service", child(6))

    async def resynced() -> int:
        queue = WorkQueue[Key]()
        world = World(lists, store, settings, b"", Metrics("0", lambda: True))  # type: ignore[arg-type]
        watches = Watches(store, queue, world.metrics, listed_again={"Service"})
        with suppress(TimeoutError):
            await asyncio.wait_for(Operator(world, watches, lambda: False).resync(), 0.05)
        assert not watches.listed_again
        return queue.depth

    woken = asyncio.run(resynced())
    runs = [("SelfDistillRun", "", place, True) for place in places]
    assert lists.asked == [*runs, *(("Service", OURS, place, False) for place in places)]
    assert store.children("run") == ()
    assert woken == 1
