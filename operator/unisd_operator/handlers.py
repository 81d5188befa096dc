"""What is watched: kopf's decorators, and nothing else. Events fill the store and wake the queue.

`index` functions are called for every object before any `event` function is: no run is looked at before everything that
exists has been seen. An event that tells no more than an answer to a write of our own wakes nobody. kopf writes nothing
to objects, since there are no other handlers. All are coroutines: kopf runs plain functions in threads, and neither
store nor queue is made for those.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import kopf

from unisd_operator.api.names import GROUP, KIND, PLURAL, VERSION
from unisd_operator.api.resource import Key
from unisd_operator.cluster.store import Store
from unisd_operator.metrics import Metrics
from unisd_operator.queue import WorkQueue
from unisd_operator.watching import CHILD_KINDS, selector

# Seconds from a child's event to the turn: children change together, and one turn looks at all of them.
CHILD_DELAY = 0.05


@dataclass
class Watches:
    """Where events go."""

    store: Store
    queue: WorkQueue[Key]
    metrics: Metrics
    warm: Callable[[], None] = lambda: None
    """Called once everything that exists has been seen."""
    warm_since: float | None = None
    """When everything that exists had been seen, seconds of the monotonic clock; None before."""
    listed_again: set[str] = field(default_factory=set)
    """Kinds whose watch had to begin anew, so that deletions may have been missed."""
    missed: frozenset[str] = frozenset()
    """uids of runs that the last resync has found and no watch has told of."""

    def saw(self, kind: str, event: Any) -> None:
        """Takes note of an event."""
        now = time.monotonic()
        self.metrics.watched = now
        if self.warm_since is None:
            self.warm_since = now
            self.warm()
        if event["type"] is None and now - self.warm_since > 30:
            self.listed_again.add(kind)

    def wake(self, key: Key | None, delay: float = 0.0) -> None:
        """Has a run looked at."""
        if key is not None:
            self.queue.add(key, delay)


def registry(watches: Watches) -> kopf.OperatorRegistry:
    """Every handler of the operator."""
    found = kopf.OperatorRegistry()
    kopf.on.login(registry=found)(_login)
    _watch_runs(found, watches)
    for kind in CHILD_KINDS:
        _watch_children(found, watches, kind)
    return found


def _login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    """kopf's own readers of credentials, which need no client library."""
    return kopf.login_with_kubeconfig(**kwargs) or kopf.login_with_service_account(**kwargs)


def _watch_runs(found: kopf.OperatorRegistry, watches: Watches) -> None:
    @kopf.index(GROUP, VERSION, PLURAL, registry=found, id="index-runs")
    async def seen(body: kopf.Body, **_: Any) -> None:
        if watches.warm_since is None:
            watches.store.put_run(dict(body))

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=found, id="runs")
    async def changed(event: kopf.RawEvent, **_: Any) -> None:
        watches.saw(KIND, event)
        metadata: Any = event["object"]["metadata"]
        key = (metadata["namespace"], metadata["name"])
        if event["type"] == "DELETED":
            watches.store.remove_run(event["object"])
            watches.metrics.remove(key)
            watches.queue.drop(key)
        elif event["type"] == "ADDED":
            watches.store.put_run(event["object"])
            watches.queue.add_first(key)  # whoever made a run sees it begin, whatever else there is to do
        elif watches.store.put_run(event["object"]):
            watches.wake(key)


def _watch_children(found: kopf.OperatorRegistry, watches: Watches, kind: str) -> None:
    group, version, plural = selector(kind)

    @kopf.index(group, version, plural, registry=found, id=f"index-{plural}")
    async def seen(body: kopf.Body, **_: Any) -> None:
        if watches.warm_since is None:
            watches.store.put(kind, dict(body))

    @kopf.on.event(group, version, plural, registry=found, id=plural)
    async def changed(event: kopf.RawEvent, **_: Any) -> None:
        watches.saw(kind, event)
        if event["type"] == "DELETED":
            watches.wake(watches.store.remove(kind, event["object"]), CHILD_DELAY)
        else:
            watches.wake(watches.store.put(kind, event["object"]), CHILD_DELAY)
