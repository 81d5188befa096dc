"""What is told about a run, from one status to the next."""

import asyncio
from typing import Any

from unisd_operator.api.status import Component, Failure, Stage, Status, Waiting
from unisd_operator.cluster.client import ConflictError, RefusedError
from unisd_operator.events import News, news, tell


def component(**changes: Any) -> Component:
    return Component(**({"name": "star-1", "component": "star", "seed": 1} | changes))


def told(before: Status, after: Status) -> list[tuple[str, str]]:
    return [(item.type, item.reason) for item in news(before, after)]


def test_nothing_is_told_when_nothing_changed() -> None:
    status = Status(phase="Running", components=[component(phase="Training")], stages=[Stage(name="prepare")])
    assert told(status, status) == []


def test_every_change_of_phase_is_told() -> None:
    before = Status(phase="Preparing", components=[component()], stages=[Stage(name="prepare", phase="Running")])
    after = Status(
        phase="Running",
        components=[component(phase="Starting")],
        stages=[Stage(name="prepare", phase="Succeeded")],
    )
    assert told(before, after) == [("Normal", "Running"), ("Normal", "Succeeded"), ("Normal", "Starting")]


def test_a_failure_is_a_warning_with_its_message_and_the_attempt() -> None:
    failure = Failure(reason="OOMKilled", message="raise the memory", attempt=1)
    before = Status(components=[component(phase="Training")])
    waiting = Waiting(reason="BackOff")
    after = Status(components=[component(phase="Pending", attempt=2, failure=failure, waiting=waiting)])
    first, second = news(before, after)
    assert (first.type, first.reason) == ("Warning", "OOMKilled")
    assert "star-1: attempt 1: raise the memory" in first.message
    assert second.message == "component star-1 is Pending, attempt 2: BackOff"
    assert told(after, after) == []


class Server:
    """Keeps Events."""

    def __init__(self) -> None:
        self.events: dict[str, Any] = {}

    async def create(self, kind: str, namespace: str, body: Any) -> None:
        if body["metadata"]["name"] in self.events:
            raise ConflictError("exists")
        self.events[body["metadata"]["name"]] = body

    async def list(self, kind: str, namespace: str, **query: str) -> list[Any]:
        return [self.events[query["fieldSelector"].removeprefix("metadata.name=")]]

    async def merge(self, kind: str, namespace: str, name: str, patch: Any) -> None:
        self.events[name] = self.events[name] | patch


class Run:
    """As much of a run as an Event needs."""

    namespace, name, uid = "research", "exp", "u"


def test_the_same_thing_told_again_is_counted() -> None:
    server = Server()
    for _ in range(3):
        asyncio.run(tell(server, Run(), News("Warning", "OOMKilled", "x" * 3000)))  # type: ignore[arg-type]
    (event,) = server.events.values()
    assert event["count"] == 3
    assert event["involvedObject"]["uid"] == "u"
    assert len(event["message"]) <= 1024


def test_an_event_that_is_refused_stops_nothing() -> None:
    class Closed(Server):
        async def create(self, kind: str, namespace: str, body: Any) -> None:
            raise RefusedError("the namespace ends")

    asyncio.run(tell(Closed(), Run(), News("Normal", "Running", "text")))  # type: ignore[arg-type]
