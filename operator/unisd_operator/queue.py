"""The work queue: one entry a key, looked at when it is due, never twice at once.

`handlers` and timers add keys, `process` runs the workers. Knows nothing of runs or clusters.
"""

import asyncio
import heapq
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
# Seconds before a failed turn is repeated: doubled each time, and jittered so that many do not come back at once.
FIRST_RETRY = 0.5
LAST_RETRY = 60.0

log = logging.getLogger(__name__)


class TransientError(Exception):
    """A turn is to be repeated, for a cause that is no fault of the code: told in one line."""


class WorkQueue(Generic[Key]):
    """Keys that are due at a time. A key that is added while it is worked on is looked at once more afterwards."""

    def __init__(self) -> None:
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, int, float, Key]] = []
        """When a key comes up, a count that keeps the order, when it is due, the key."""
        self._count = 0
        self._busy: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._changed = asyncio.Event()

    def add(self, key: Key, delay: float = 0.0) -> None:
        """Has a key looked at after `delay` seconds, or earlier if it is due earlier."""
        due = time.monotonic() + delay
        if key in self._due and self._due[key] <= due:
            return
        self._due[key] = due
        self._push(due, due, key)

    def add_first(self, key: Key) -> None:
        """Has a key looked at before all others that wait."""
        due = self._due[key] = min(time.monotonic(), self._due.get(key, math.inf))
        self._push(0.0, due, key)

    def drop(self, key: Key) -> None:
        """Has a key not looked at any more, until it is added again."""
        self._due.pop(key, None)
        self._failures.pop(key, None)

    @property
    def depth(self) -> int:
        """Keys that are due and wait for a worker."""
        now = time.monotonic()
        return sum(due <= now for due in list(self._due.values()))

    @property
    def age(self) -> float:
        """How long the oldest of them has waited, seconds; 0 if none waits."""
        now = time.monotonic()
        return max(0.0, now - min(list(self._due.values()), default=now))

    async def run(self, workers: int, work: Callable[[Key], Awaitable[float | None]]) -> None:
        """Works for ever, on up to `workers` keys at once.

        Args:
            workers: keys at once.
            work: a turn; returns in how many seconds the key wants to be looked at again, None for not by itself. An
                exception is logged, and the turn repeated with exponential back-off.
        """
        free = asyncio.Semaphore(workers)
        async with asyncio.TaskGroup() as turns:
            while True:
                await free.acquire()
                turns.create_task(self._turn(await self._next(), work, free))

    async def _turn(self, key: Key, work: Callable[[Key], Awaitable[float | None]], free: asyncio.Semaphore) -> None:
        try:
            delay = await work(key)
            self._failures.pop(key, None)
        except TransientError as cause:
            delay = self._retry_delay(key)
            log.warning("%s: %s; again in %.1f s", key, cause, delay)
        except Exception:
            # The edge to the cluster: one run's trouble must not end the others' work.
            delay = self._retry_delay(key)
            log.exception("%s: a turn failed; again in %.1f s", key, delay)
        finally:
            self._busy.discard(key)
            free.release()
        if key in self._due:  # added meanwhile
            self._push(self._due[key], self._due[key], key)
        if delay is not None:
            self.add(key, delay)

    def _retry_delay(self, key: Key) -> float:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay: float = min(LAST_RETRY, FIRST_RETRY * 2.0 ** (failures - 1))
        return delay * random.uniform(0.5, 1.0)

    async def _next(self) -> Key:
        """The next key that is due, once it is."""
        while True:
            now = time.monotonic()
            while self._heap and self._heap[0][0] <= now:
                _, _, due, key = heapq.heappop(self._heap)
                if self._due.get(key) == due and key not in self._busy:
                    del self._due[key]
                    self._busy.add(key)
                    return key
            await self._wait(self._heap[0][0] - now if self._heap else None)

    async def _wait(self, seconds: float | None) -> None:
        self._changed.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return

    def _push(self, order: float, due: float, key: Key) -> None:
        self._count += 1
        heapq.heappush(self._heap, (order, self._count, due, key))
        self._changed.set()
