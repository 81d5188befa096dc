"""Generation by vLLM servers behind their policy agents: a `RolloutEngine` over HTTP.

Used by the trainer and by evaluation where `rollout.engine` is vllm. A version of the policy is brought to a server
before any request to it names that version; a server that lost it (a restart) answers 404 and is given it again. So
every completion comes from the version that was asked for, whatever happens to servers in between. Requests are
spread over all servers, retried elsewhere when one is lost, and cancelled when nobody reads the answers any more.
"""

import asyncio
import json
import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout

from unisd.rollouts.policy import served_name
from unisd.rollouts.types import Completion, Sampling

logger = logging.getLogger(__name__)
_BASE = "base"
"""Name under which every server offers the model without adapters."""


class RolloutError(Exception):
    """No server answered for longer than the client was told to wait."""


@dataclass(frozen=True)
class Policy:
    """One version of a component's adapter."""

    component: str
    version: int
    body: bytes = b""
    """Safetensors with the PEFT configuration in its metadata (`rollouts.policy`); empty for version 0, the base."""

    @property
    def model(self) -> str:
        """Name to ask a server for."""
        return served_name(self.component, self.version) if self.version else _BASE


@dataclass(frozen=True)
class ClientSettings:
    """How the client treats servers."""

    key: str
    """The component's key."""
    stop_ids: frozenset[int]
    """Tokens that end a completion."""
    patience_seconds: float = 1800.0
    """Longest time without any usable server before giving up: a server may still be loading its model."""
    request_seconds: float = 600.0
    """Longest time of one request."""
    per_server: int = 256
    """Requests in flight at one server."""


@dataclass
class _Server:
    """One server as the client sees it."""

    url: str
    holds: str = ""
    flight: int = 0
    failures: int = 0
    resting_until: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def rest(self) -> None:
        """Leaves the server alone for a while, longer after each failure in a row."""
        self.failures += 1
        self.holds = ""
        delay = min(30.0, 0.2 * 2**self.failures) * random.uniform(0.5, 1.0)
        self.resting_until = time.monotonic() + delay


class VllmEngine:
    """A `RolloutEngine` over one or several vLLM servers."""

    def __init__(self, servers: Callable[[], Sequence[str]], settings: ClientSettings) -> None:
        """Speaks to nobody yet.

        Args:
            servers: URLs of all agents that there are now; asked again while requests wait.
            settings: key and patience.
        """
        self._find, self._settings = servers, settings
        self._stop_ids = sorted(settings.stop_ids)
        self._policy = Policy("base", 0)
        self._servers: dict[str, _Server] = {}
        self.push_seconds: list[float] = []
        """Duration of each push since the last `publish`, seconds."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rollouts", daemon=True)
        self._thread.start()
        self._session: ClientSession = self._wait(self._open())

    def close(self) -> None:
        """Cancels whatever is in flight and ends the client's thread."""
        self._wait(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def publish(self, policy: Policy) -> None:
        """Makes a version the one that completions come from, and brings it to every server that answers.

        Raises:
            RolloutError: no server took it within the client's patience.
        """
        self._policy, self.push_seconds = policy, []
        self._wait(self._publish())

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> Iterator[Completion]:
        """Completions of all prompts under the published version, each as soon as it is finished.

        Raises:
            RolloutError: no server answered within the client's patience.
        """
        found: queue.Queue[Completion | BaseException] = queue.Queue()
        running = [self._submit(index, prompt, sampling, found) for index, prompt in enumerate(prompts)]
        try:
            for _ in prompts:
                answer = found.get()
                if isinstance(answer, BaseException):
                    raise answer
                yield answer
        finally:
            for future in running:
                future.cancel()

    # -- the client's own thread

    def _wait(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

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

    def _submit(
        self, index: int, prompt: Sequence[int], sampling: Sampling, found: "queue.Queue[Completion | BaseException]"
    ) -> "Future[None]":
        async def work() -> None:
            try:
                found.put(await self._complete(index, prompt, sampling))
            except Exception as error:  # noqa: BLE001 - carried to the thread that reads, and raised there
                found.put(error)

        return asyncio.run_coroutine_threadsafe(work(), self._loop)

    def _refresh(self) -> None:
        urls = set(self._find())
        self._servers = {url: self._servers.get(url) or _Server(url) for url in urls}

    async def _choose(self, deadline: float) -> _Server:
        """The least busy server that does not rest; waits for one until the deadline."""
        while True:
            self._refresh()
            now = time.monotonic()
            able = [
                s for s in self._servers.values() if s.resting_until <= now and s.flight < self._settings.per_server
            ]
            if able:
                return min(able, key=lambda server: server.flight)
            if now > deadline:
                raise RolloutError(
                    f"no rollout server answered for {self._settings.patience_seconds:.0f} s; "
                    f"known: {', '.join(sorted(self._servers)) or 'none'}"
                )
            await asyncio.sleep(0.1)

    async def _publish(self) -> None:
        deadline = time.monotonic() + self._settings.patience_seconds
        self._refresh()
        taken = await asyncio.gather(*(self._try_bring(server) for server in self._servers.values()))
        while not any(taken):
            taken = [await self._try_bring(await self._choose(deadline))]

    async def _try_bring(self, server: _Server) -> bool:
        try:
            await self._bring(server)
        except (ClientError, TimeoutError) as error:
            logger.warning("rollout server %s did not take %s: %s", server.url, self._policy.model, error)
            server.rest()
            return False
        return True

    async def _bring(self, server: _Server) -> None:
        """Has a server hold the published version; does nothing where it does."""
        async with server.lock:
            policy = self._policy
            if server.holds == policy.model:
                return
            began = time.monotonic()
            url = f"{server.url}/policies/{policy.component}/{policy.version}"
            async with self._session.put(url, data=policy.body) as answer:
                if answer.status in (400, 401, 409, 413):
                    raise ValueError(f"{url}: {answer.status} {await answer.text()}")
                answer.raise_for_status()
            server.holds, server.failures = policy.model, 0
            self.push_seconds.append(time.monotonic() - began)

    async def _complete(self, index: int, prompt: Sequence[int], sampling: Sampling) -> Completion:
        deadline = time.monotonic() + self._settings.patience_seconds
        body = _request(prompt, sampling, index) | {"model": self._policy.model, "stop_token_ids": self._stop_ids}
        while True:
            server = await self._choose(deadline)
            server.flight += 1
            try:
                await self._bring(server)
                async with self._session.post(f"{server.url}/v1/completions", json=body) as answer:
                    if answer.status == 404:  # it was restarted and has lost the version
                        server.holds = ""
                        continue
                    if answer.status in (400, 401):
                        raise ValueError(f"{server.url} refused a request: {answer.status} {await answer.text()}")
                    answer.raise_for_status()
                    server.failures = 0
                    deadline = time.monotonic() + self._settings.patience_seconds
                    return _completion(index, await answer.json(), self._settings.stop_ids)
            except (ClientError, TimeoutError, json.JSONDecodeError) as error:
                logger.warning("rollout server %s: %s; trying again", server.url, error)
                server.rest()
            finally:
                server.flight -= 1


def _request(prompt: Sequence[int], sampling: Sampling, index: int) -> dict[str, Any]:
    """A request to `/v1/completions`: token ids in, token ids and log-probabilities at temperature 1 out."""
    return {
        "prompt": list(prompt),
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k or -1,
        "seed": (sampling.seed * 1_000_003 + sampling.first_index + index) % 2**63,
        "ignore_eos": True,
        "logprobs": 0,
        "return_token_ids": True,
        "skip_special_tokens": False,
        "spaces_between_special_tokens": False,
    }


def _completion(index: int, answer: dict[str, Any], stop_ids: frozenset[int]) -> Completion:
    choice = answer["choices"][0]
    ids = tuple(choice["token_ids"])
    logprobs = tuple(choice["logprobs"]["token_logprobs"])
    assert len(ids) == len(logprobs), "vLLM gives a log-probability for each token"
    return Completion(index, ids, logprobs, finished=bool(ids) and ids[-1] in stop_ids)
