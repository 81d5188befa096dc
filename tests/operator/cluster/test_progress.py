"""Progress asked of pods over HTTP: answers that come in pieces, that are none, and those that do not come."""

import asyncio
import gzip
import json
import os
import socket
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web
from unisd_operator.cluster.progress import ask, source
from unisd_operator.observed import Answer, PodState
from unisd_operator.planning.ports import METRICS as PORT

# An address of this machine's own that no other test listens at.
ADDRESS = f"127.9.{os.getpid() // 250 % 250}.{os.getpid() % 250 + 1}"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def pod(role: Any = "train", **state: Any) -> PodState:
    state = {"phase": "Running", "ip": ADDRESS, **state}
    return PodState("p", "u", role, state.pop("arm", "star-1"), 1, created=datetime.now(UTC), **state)


def answer_of(handler: Handler, ip: str = ADDRESS) -> Answer:
    async def asked() -> Answer:
        app = web.Application()
        app.router.add_get("/progress", handler)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, ADDRESS, PORT).start()
        try:
            (answer,) = await ask([pod(ip=ip)])
        finally:
            await runner.cleanup()
        return answer

    return asyncio.run(asked())


def test_an_answer_that_comes_in_pieces_is_read_to_its_end() -> None:
    """Of two packets the first may be there before the second."""
    values = {"step": 3, "metrics": {f"metric_{number}": 0.5 for number in range(60)}}
    body = json.dumps(values).encode()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in (body[:1400], body[1400:]):
            await response.write(piece)
            await asyncio.sleep(0.05)
        return response

    assert answer_of(handler).values == values


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_a_pod_may_have_an_address_of_ipv6() -> None:
    """The same address, as IPv6 writes those of IPv4."""
    mapped = f"::ffff:{ADDRESS}"

    async def handler(_request: web.Request) -> web.Response:
        return web.json_response({"step": 3})

    async def busy(_request: web.Request) -> web.Response:
        return web.Response(status=503)

    assert answer_of(handler, mapped).values == {"step": 3}
    assert f"([{mapped}]:{PORT})" in answer_of(busy, mapped).error


@pytest.mark.parametrize(
    ("text", "status", "told"),
    [
        ("no JSON", 200, "Expecting value"),
        ("[1]", 200, "answered list, not an object"),
        ("[" * 60_000, 200, "nested too deeply"),
        ('{"step": "\\ud800"}', 200, "surrogates not allowed"),
        ("{}", 503, "503"),
        (json.dumps({"metrics": "x" * 70_000}), 200, "more than 65536 bytes"),
    ],
)
def test_what_is_no_answer_says_why(text: str, status: int, told: str) -> None:
    async def handler(_request: web.Request) -> web.Response:
        return web.Response(text=text, status=status)

    answer = answer_of(handler)
    assert answer.values is None
    assert told in answer.error


def test_nothing_is_unfolded() -> None:
    async def handler(_request: web.Request) -> web.Response:
        return web.Response(body=gzip.compress(b'{"step": 1}'), headers={"Content-Encoding": "gzip"})

    assert answer_of(handler).values is None


def test_a_pod_cannot_send_the_operator_elsewhere() -> None:
    asked = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(request.path_qs)
        return web.Response(status=302, headers={"Location": "/progress?again"})

    assert answer_of(handler).values is None
    assert asked == ["/progress"]


def test_a_pod_that_does_not_listen() -> None:
    (answer,) = asyncio.run(ask([pod()]))
    assert answer.values is None
    assert f"no progress from pod p ({ADDRESS}:{PORT})" in answer.error


def test_who_is_asked() -> None:
    assert source(pod()) == "star-1"
    assert source(pod(index=1)) is None, "the first process alone knows"
    assert source(pod("prepare", arm=None)) == "prepare"
    for other in (pod("rollout"), pod(ip=""), pod(phase="Succeeded"), pod(deleting_since=datetime.now(UTC))):
        assert source(other) is None
