"""Calls and their errors, against a server that answers what it is told."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from unisd_operator.cluster import client as module
from unisd_operator.cluster.client import (
    Client,
    ConflictError,
    NotFoundError,
    RefusedError,
    UnavailableError,
    path_of,
)


class Server:
    """Records requests and gives one answer."""

    def __init__(self, status: int = 200, body: Any = None, delay: float = 0.0) -> None:
        self.status, self.body, self.delay = status, body if body is not None else {}, delay
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []

    async def answer(self, request: web.Request) -> web.Response:
        text = await request.text()
        sent = json.loads(text) if text else None
        self.requests.append((request.method, request.path, dict(request.query), sent))
        await asyncio.sleep(self.delay)
        return web.json_response(self.body, status=self.status)


def ask(server: Server, question: Callable[[Client], Awaitable[Any]], may_write: bool = True) -> Any:
    async def main() -> Any:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", server.answer)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        configuration = Configuration(host=f"http://127.0.0.1:{runner.addresses[0][1]}")
        try:
            async with ApiClient(configuration) as api:
                return await question(Client(api, may_write=lambda: may_write))
        finally:
            await runner.cleanup()

    return asyncio.run(main())


def test_paths() -> None:
    assert path_of("Pod", "ns", "p", "log") == "/api/v1/namespaces/ns/pods/p/log"
    assert path_of("Job", "ns") == "/apis/batch/v1/namespaces/ns/jobs"
    assert path_of("SelfDistillRun") == "/apis/unisd.dev/v1alpha1/selfdistillruns"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, NotFoundError),
        (409, ConflictError),
        (403, RefusedError),
        (422, RefusedError),
        (401, UnavailableError),
        (429, UnavailableError),
        (500, UnavailableError),
    ],
)
def test_errors_are_few_and_carry_the_servers_words(status: int, error: type[Exception]) -> None:
    with pytest.raises(error, match="exceeded quota"):
        ask(Server(status, {"message": "exceeded quota"}), lambda client: client.get("Pod", "ns", "p"))


def test_an_answer_that_is_no_status_is_told_as_it_is() -> None:
    with pytest.raises(UnavailableError, match="HTTP 502"):
        ask(Server(502, []), lambda client: client.get("Pod", "ns", "p"))


def test_no_answer_in_time_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.1)
    with pytest.raises(UnavailableError, match="no answer"):
        ask(Server(delay=5), lambda client: client.get("Pod", "ns", "p"))


def test_nobody_there_is_told() -> None:
    async def main() -> None:
        async with ApiClient(Configuration(host="http://127.0.0.1:1")) as api:
            await Client(api).get("Pod", "ns", "p")

    with pytest.raises(UnavailableError):
        asyncio.run(main())


def test_whoever_may_not_write_reads_only() -> None:
    server = Server(body={"metadata": {}})
    ask(server, lambda client: client.get("Pod", "ns", "p"), may_write=False)
    with pytest.raises(UnavailableError, match="no longer leads"):
        ask(server, lambda client: client.create("Event", "ns", {}), may_write=False)
    assert len(server.requests) == 1


def test_apply_is_forced_and_by_name() -> None:
    server = Server()
    body = {"kind": "Service", "metadata": {"name": "s"}}
    ask(server, lambda client: client.apply("ns", body))
    query = {"fieldManager": "unisd-operator", "force": "true"}
    assert server.requests == [("PATCH", "/api/v1/namespaces/ns/services/s", query, body)]


def test_a_deletion_means_one_object_and_what_it_owns() -> None:
    server = Server()
    ask(server, lambda client: client.delete("Job", "ns", "j", "uid-1"))
    options = {"propagationPolicy": "Background", "preconditions": {"uid": "uid-1"}}
    assert server.requests == [("DELETE", "/apis/batch/v1/namespaces/ns/jobs/j", {}, options)]
    ask(server, lambda client: client.delete("Pod", "ns", "p", "uid-2", grace_seconds=0))
    assert server.requests[1][3]["gracePeriodSeconds"] == 0
    ask(Server(404, {"message": "gone"}), lambda client: client.delete("Job", "ns", "j", None))


def test_what_is_served_is_found_by_discovery() -> None:
    assert ask(Server(body={"resources": [{"name": "workloads"}]}), lambda client: client.has("Workload"))
    assert not ask(Server(body={"resources": [{"name": "topologies"}]}), lambda client: client.has("Workload"))
    assert not ask(Server(404, {"message": "no group"}), lambda client: client.has("Workload"))
