"""Generation by vLLM servers behind their policy agents: a `RolloutEngine` over HTTP.

Used by the trainer, by evaluation and by the contexts stage where `rollout.engine` is vllm (`rollouts.servers`). A
version of the policy is brought to a server before any request to it names that version; a server that lost it (a
restart) answers 404 and is given it again. So every completion comes from the version that was asked for, whatever
happens to servers in between. Requests are spread over all servers, retried elsewhere when one is lost, and cancelled
when nobody reads the answers any more.
"""

import asyncio
import hashlib
import json
import logging
import queue
import random
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, TypeVar

from aiohttp import ClientError, ClientSession, ClientTimeout

from unisd.config.serving import BASE
from unisd.failures import StageError
from unisd.rollouts.completions import generated, generation, scored, scoring
from unisd.rollouts.policy import served_name
from unisd.rollouts.types import Completion, Sampling

logger = logging.getLogger(__name__)
_LOOK_SECONDS = 0.2
"""Time between two looks at whether to stop, or for servers that are new."""
_PIECE_BYTES = 1 << 20
_TROUBLES = (ClientError, TimeoutError, json.JSONDecodeError)
_Answer = TypeVar("_Answer")


class RolloutStopped(Exception):  # noqa: N818 - not an error: the client was asked to stop
    """What was asked of the servers was given up, because the client was asked to stop."""


@dataclass(frozen=True)
class Policy:
    """One version of a component's adapter."""

    component: str
    version: int
    body: bytes | memoryview = b""
    """Safetensors with the PEFT configuration in its metadata (`rollouts.policy`); empty for version 0, the base."""

    @property
    def model(self) -> str:
        """Name to ask a server for."""
        return served_name(self.component, self.version) if self.version else BASE

    @cached_property
    def sha256(self) -> str:
        """Digest of the body."""
        return hashlib.sha256(self.body).hexdigest()


@dataclass(frozen=True)
class _Pieces:
    """A body on its way: given as one, aiohttp copies all of it before the first byte goes."""

    body: bytes | memoryview

    async def __aiter__(self) -> AsyncIterator[memoryview]:
        whole = memoryview(self.body)
        for start in range(0, len(whole), _PIECE_BYTES):
            yield whole[start : start + _PIECE_BYTES]


@dataclass(frozen=True)
class ClientSettings:
    """How the client treats servers."""

    key: str
    """The component's key."""
    stop_ids: frozenset[int]
    """Tokens that end a completion."""
    patience_seconds: float = 1500.0
    """Longest time without an answer of any server before giving up: one may still be loading its model. Shorter than
    the time after which processes of a training give each other up (1800 s), so that this reason is the one told."""
    request_seconds: float = 600.0
    """Longest time of one request."""
    per_server: int = 256
    """Requests in flight at one server."""
    stopped: Callable[[], bool] = lambda: False
    """Whether to give up what was asked for; looked at while waiting."""


@dataclass
class _Server:
    """One server as the client sees it."""

    url: str
    holds: str = ""
    newest: int = 0
    """The version that it acknowledged last."""
    flight: int = 0
    failures: int = 0
    resting_until: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def rest(self, error: Exception) -> None:
        """Leaves the server alone for a while, longer after each failure in a row; requests that fail together count
        once."""
        self.holds = ""
        now = time.monotonic()
        if self.resting_until > now:
            return
        if not self.failures:
            logger.warning("rollout server %s: %s; asking again until it answers", self.url, error)
        self.failures += 1
        self.resting_until = now + min(30.0, 0.2 * 2**self.failures) * random.uniform(0.5, 1.0)


class VllmEngine:
    """A `RolloutEngine` over one or several vLLM servers."""

    def __init__(self, servers: Callable[[], Sequence[str]], settings: ClientSettings) -> None:
        """Speaks to nobody yet.

        Args:
            servers: URLs of all agents that there are now; asked again while requests wait.
            settings: key and patience.
        """
        self._find, self._settings = servers, settings
        self._policy = Policy(BASE, 0)
        self._servers: dict[str, _Server] = {}
        self._found_at = self._heard_at = float("-inf")
        self.push_seconds: list[float] = []
        """Duration of each push of the published version, seconds."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rollouts", daemon=True)
        self._thread.start()
        self._session: ClientSession = self._wait(self._open())

    def close(self) -> None:
        """Cancels whatever is in flight and ends the client's thread."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # -- what others ask for

    def offer(self, policy: Policy) -> None:
        """Makes a version the one that is asked for, and brings it to the servers that answer at once."""
        if policy.model != self._policy.model:
            self._policy, self.push_seconds = policy, []
        self._heard_at = time.monotonic()
        self._wait(self._offer())

    def publish(self, policy: Policy) -> None:
        """The same, and waits until a server holds it.

        Raises:
            StageError: RolloutCrash, no server took it within the client's patience.
            RolloutStopped: the client was asked to stop.
        """
        self.offer(policy)
        self._wait(self._somewhere())

    @property
    def slowest(self) -> int:
        """The version that the server farthest behind acknowledged last."""
        return min((server.newest for server in self._servers.values()), default=0)

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> Iterator[Completion]:
        """Completions of all prompts under the published version, each as soon as it is finished.

        Raises:
            StageError: RolloutCrash, no server answered within the client's patience.
            RolloutStopped: the client was asked to stop.
        """
        stop_ids = self._settings.stop_ids

        async def one(index: int, prompt: Sequence[int]) -> Completion:
            answer = await self._ask(generation(prompt, sampling, stop_ids))
            return generated(index, answer, stop_ids)

        yield from self._each([partial(one, index, prompt) for index, prompt in enumerate(prompts)])

    def score(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], *, base: bool = False
    ) -> Iterator[tuple[int, list[float]]]:
        """Log-probabilities at temperature 1 of given completions' tokens, with the index of each, as they come.

        Args:
            prompts: token ids.
            completions: token ids, one for each prompt.
            base: under the model without adapters, whatever is published.

        Raises:
            StageError, RolloutStopped: as `generate`.
        """

        async def one(index: int) -> tuple[int, list[float]]:
            first, ids = len(prompts[index]), [*prompts[index], *completions[index]]
            return index, scored(await self._ask(scoring(ids), base=base), ids, first)

        yield from self._each([partial(one, index) for index in range(len(prompts))])

    # -- from the caller's thread to the client's own

    def _wait(self, work: Coroutine[Any, Any, _Answer]) -> _Answer:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        while True:
            try:
                return future.result(timeout=_LOOK_SECONDS)
            except TimeoutError:
                if future.done():
                    raise
                if self._settings.stopped():
                    future.cancel()
                    raise RolloutStopped from None

    def _each(self, work: Sequence[Callable[[], Awaitable[_Answer]]]) -> Iterator[_Answer]:
        """The answers as they come; what nobody waits for any more is cancelled."""
        self._heard_at = time.monotonic()
        found: queue.Queue[_Answer | BaseException] = queue.Queue()
        running = [self._submit(item, found) for item in work]
        try:
            for _ in work:
                yield self._next(found)
        finally:
            for future in running:
                future.cancel()

    def _next(self, found: "queue.Queue[_Answer | BaseException]") -> _Answer:
        while not self._settings.stopped():
            try:
                answer = found.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                continue
            if isinstance(answer, BaseException):
                raise answer
            return answer
        raise RolloutStopped

    def _submit(
        self, work: Callable[[], Awaitable[_Answer]], found: "queue.Queue[_Answer | BaseException]"
    ) -> "Future[None]":
        async def told() -> None:
            try:
                found.put(await work())
            except Exception as error:  # noqa: BLE001 - carried to the thread that reads, and raised there
                found.put(error)

        return asyncio.run_coroutine_threadsafe(told(), self._loop)

    # -- the client's own thread

    async def _open(self) -> ClientSession:
        headers = {"Authorization": f"Bearer {self._settings.key}"}
        timeout = ClientTimeout(total=self._settings.request_seconds, connect=10)
        return ClientSession(headers=headers, timeout=timeout)

    async def _end(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._session.close()

    async def _refresh(self) -> None:
        """Takes in servers that came or went, at most every so often: it may be a question to a name server."""
        if time.monotonic() - self._found_at < _LOOK_SECONDS:
            return
        self._found_at = time.monotonic()
        urls = set(await asyncio.to_thread(self._find))
        self._servers = {url: self._servers.get(url) or _Server(url) for url in urls}

    async def _choose(self) -> _Server:
        """The least busy server that does not rest; waits for one as long as any answers now and then."""
        while True:
            await self._refresh()
            now = time.monotonic()
            if now - self._heard_at > self._settings.patience_seconds:
                raise StageError(
                    "RolloutCrash",
                    f"no rollout server gave an answer for {self._settings.patience_seconds:.0f} s; "
                    f"known: {', '.join(sorted(self._servers)) or 'none'}. See their logs",
                )
            able = [
                s for s in self._servers.values() if s.resting_until <= now and s.flight < self._settings.per_server
            ]
            if able:
                return min(able, key=lambda server: server.flight)
            await asyncio.sleep(0.1)

    async def _offer(self) -> None:
        await self._refresh()
        now = time.monotonic()
        await asyncio.gather(*(self._try_bring(s) for s in self._servers.values() if s.resting_until <= now))

    async def _somewhere(self) -> None:
        while not any(server.holds == self._policy.model for server in self._servers.values()):
            await self._try_bring(await self._choose())

    async def _try_bring(self, server: _Server) -> None:
        try:
            await self._bring(server)
        except _TROUBLES as error:
            server.rest(error)

    async def _bring(self, server: _Server) -> None:
        """Has a server hold the published version; sends nothing where it does."""
        async with server.lock:
            policy = self._policy
            if server.holds == policy.model:
                return
            if not policy.version or not await self._is_held(server, policy):
                began = time.monotonic()
                url = f"{server.url}/policies/{policy.component}/{policy.version}"
                size = {"Content-Length": str(len(policy.body))}
                async with self._session.put(url, data=_Pieces(policy.body), headers=size) as answer:
                    if answer.status in (400, 401, 409, 413):
                        raise ValueError(f"{url}: {answer.status} {await answer.text()}")
                    answer.raise_for_status()
                self.push_seconds.append(time.monotonic() - began)
            server.holds, server.newest, server.failures = policy.model, policy.version, 0

    async def _is_held(self, server: _Server, policy: Policy) -> bool:
        """Whether somebody else brought it already: another process of this training, or the trainer before."""
        url = f"{server.url}/policies/{policy.component}"
        async with self._session.get(url) as answer:
            if answer.status == 401:
                raise ValueError(f"{url}: {answer.status} {await answer.text()}")
            answer.raise_for_status()
            held: dict[str, str] = (await answer.json())["sha256"]
            there = held.get(str(policy.version))
            return there is not None and there == policy.sha256  # the digest takes as long as sending

    async def _ask(self, body: dict[str, Any], *, base: bool = False) -> Any:
        """vLLM's answer to a request, from whichever server can give it."""
        body = body | {"model": BASE if base else self._policy.model}
        while True:
            server = await self._choose()
            server.flight += 1
            try:
                await self._bring(server)
                async with self._session.post(f"{server.url}/v1/completions", json=body) as answer:
                    if answer.status == 404:  # it was restarted and has lost the version
                        server.holds = ""
                        await asyncio.sleep(0.05)
                        continue
                    if answer.status in (400, 401):
                        raise ValueError(f"{server.url} refused a request: {answer.status} {await answer.text()}")
                    answer.raise_for_status()
                    found = await answer.json()
                    server.failures, self._heard_at = 0, time.monotonic()
                    return found
            except _TROUBLES as error:
                server.rest(error)
            finally:
                server.flight -= 1
