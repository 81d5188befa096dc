"""Waiting for what a cluster does in its own time; used by the cluster and by tests."""

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")
PATIENCE = 120.0
"""Seconds for what takes moments on a machine that has nothing else to do: others may be slow, or stand still a while."""


def eventually(look: Callable[[], Found], within: float = PATIENCE, every: float = 0.1) -> Found:
    """Calls `look` until it returns something true, and returns that; `within` and `every` are seconds.

    `AssertionError` and `OSError` (a server that is not up yet) mean: not yet. Raises `AssertionError` with the last
    answer when the time is over.
    """
    end = time.monotonic() + within
    while True:
        try:
            found = look()
            if found:
                return found
            last = repr(found)
        except (AssertionError, OSError) as error:
            last = str(error)
        if time.monotonic() >= end:
            raise AssertionError(f"not within {within} s; the last answer: {last}")
        time.sleep(every)
