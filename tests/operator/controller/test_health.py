"""What the liveness probe is told, and where."""

import asyncio
import time

import aiohttp
import pytest
from unisd_operator.health import STUCK_SECONDS, served
from unisd_operator.metrics import Metrics

from tests.test_listening import LOOPBACKS


def asked(metrics: Metrics, loopback: str) -> tuple[int, str]:
    async def ask() -> tuple[int, str]:
        async with served(metrics, 0) as port, aiohttp.request("GET", f"http://{loopback}:{port}/healthz") as answer:
            return answer.status, await answer.text()

    return asyncio.run(ask())


@pytest.mark.parametrize("loopback", LOOPBACKS)
def test_it_answers_at_addresses_of_both_families(loopback: str) -> None:
    status, told = asked(Metrics("0", lambda: True), loopback)
    assert status == 200
    assert "alive" in told


def test_an_operator_that_hears_nothing_is_told_as_stuck_until_it_hears_again() -> None:
    metrics = Metrics("0", lambda: True)
    metrics.watched = metrics.resynced = time.monotonic() - STUCK_SECONDS - 1
    assert asked(metrics, "127.0.0.1")[0] == 503
    metrics.watched = time.monotonic()
    assert asked(metrics, "127.0.0.1")[0] == 200
    metrics.watched, metrics.resynced = 0.0, time.monotonic()
    assert asked(metrics, "127.0.0.1")[0] == 200
