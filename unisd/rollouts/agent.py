"""The policy agent: the only listener of a rollout pod, in front of a vLLM server on loopback.

It takes LoRA adapters from their holder (the trainer, later the evaluator), has vLLM load each version under a name of
its own, and forwards the few paths of `/v1` that a run needs, all with the component's key. A second port carries
metrics and progress, without a key and without anything secret.

Truth lies with vLLM: which versions are held is asked of `/v1/models` each time, so that a server that was restarted
never counts as holding what it lost. Which version a request may use is the client's business: it names the adapter
as its model, and vLLM answers 404 for one that it does not hold. Decides nothing about training.
"""

import asyncio
import hashlib
import hmac
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from unisd.listening import listening
from unisd.rollouts.policy import PolicyError, check_component, read_config, served_name, version_in

logger = logging.getLogger(__name__)

_FORWARDED = {("POST", "/v1/completions"), ("GET", "/v1/models")}
_PROBES = ("/healthz", "/readyz")
_LONGEST_REQUEST = 64 << 20
_PASSED_ON = ("content-type",)
_INCOMING = ".incoming-"
_DIGEST = "sha256"
"""File beside an adapter."""


@dataclass(frozen=True)
class AgentSettings:
    """How one agent works."""

    upstream: str
    """URL of vLLM, on loopback."""
    key: str
    """Key that requests must carry, and that vLLM asks for."""
    directory: Path
    """Memory-backed directory that both containers see."""
    keep: int = 2
    """Versions of a component that stay loaded: the newest, and the one that requests in flight still use."""
    max_policy_bytes: int = 4 << 30
    """Largest adapter taken, bytes."""


class _Metrics:
    """The agent's own figures; one registry an agent, so that tests can run several."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.version = Gauge(
            "unisd_rollout_policy_version", "newest version held", ["component"], registry=self.registry
        )
        self.pushes = Counter("unisd_rollout_policy_pushes", "versions taken", ["result"], registry=self.registry)
        self.bytes = Counter("unisd_rollout_policy_bytes", "bytes of adapters taken", registry=self.registry)
        buckets = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
        self.transfer = Histogram(
            "unisd_rollout_transfer_seconds", "receiving an adapter", buckets=buckets, registry=self.registry
        )
        self.load = Histogram(
            "unisd_rollout_load_seconds", "vLLM loading an adapter", buckets=buckets, registry=self.registry
        )


@dataclass
class _Agent:
    settings: AgentSettings
    session: ClientSession
    metrics: _Metrics = field(default_factory=_Metrics)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    digests: dict[str, str] = field(init=False)
    """What each version that was loaded consists of, in the order of loading."""

    def __post_init__(self) -> None:
        self.digests = _remembered(self.settings.directory)

    # -- what vLLM says

    def ask(self, method: str, path: str, **options: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.settings.key}", **options.pop("headers", {})}
        return self.session.request(method, f"{self.settings.upstream}{path}", headers=headers, **options)

    async def held(self) -> list[str]:
        """Names that vLLM serves."""
        async with self.ask("GET", "/v1/models") as answer:
            answer.raise_for_status()
            return [model["id"] for model in (await answer.json())["data"]]

    async def versions(self, component: str) -> list[int]:
        """Versions of a component that vLLM holds, oldest first."""
        found = [version_in(name) for name in await self.held()]
        return sorted(held[1] for held in found if held is not None and held[0] == component)

    # -- taking a version

    async def take(self, component: str, version: int, request: web.Request) -> dict[str, Any]:
        """Receives a version, has vLLM load it and the oldest unloaded; acknowledged when vLLM has answered."""
        name = served_name(component, version)
        began = time.monotonic()
        with tempfile.TemporaryDirectory(dir=self.settings.directory, prefix=_INCOMING) as folder:
            weights = Path(folder) / "adapter_model.safetensors"
            digest, size = await self._receive(request, weights)
            (Path(folder) / "adapter_config.json").write_text(json.dumps(read_config(weights)), encoding="utf-8")
            received = time.monotonic()
            async with self.lock:
                if name in await self.held():
                    self._same(name, digest)
                else:
                    await self._load(name, Path(folder), digest)
                    await self._unload_oldest(component)
        seconds = {"transfer": received - began, "load": time.monotonic() - received}
        self.metrics.transfer.observe(seconds["transfer"])
        self.metrics.load.observe(seconds["load"])
        self.metrics.bytes.inc(size)
        self.metrics.version.labels(component).set(version)
        return {"component": component, "version": version, "bytes": size, "seconds": seconds}

    async def _receive(self, request: web.Request, path: Path) -> tuple[str, int]:
        """Writes the body to a file; its digest, which takes as long as that, is made beside it by a thread."""
        _refuse_above(self.settings.max_policy_bytes, request.content_length or 0)
        digest, size = hashlib.sha256(), 0
        with path.open("wb") as file, ThreadPoolExecutor(1) as hashing:
            async for chunk in request.content.iter_chunked(1 << 20):
                size += len(chunk)
                _refuse_above(self.settings.max_policy_bytes, size)
                hashing.submit(digest.update, chunk)
                file.write(chunk)
            return await asyncio.get_running_loop().run_in_executor(hashing, digest.hexdigest), size

    def _same(self, name: str, digest: str) -> None:
        """A version that is held is taken again only if it is the same: its name already stands for its weights."""
        if self.digests.get(name) != digest:
            raise web.HTTPConflict(text=f"{name} is held with other weights: a version is never used twice\n")

    async def _load(self, name: str, received: Path, digest: str) -> None:
        """The files stay as long as vLLM holds the version: it may drop one from its cache and read it again."""
        folder = self.settings.directory / name
        (received / _DIGEST).write_text(digest, encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(received, folder, copy_function=os.link)
        body = {"lora_name": name, "lora_path": str(folder)}
        async with self.ask("POST", "/v1/load_lora_adapter", json=body) as answer:
            if answer.status != 200:
                shutil.rmtree(folder, ignore_errors=True)
                raise web.HTTPBadGateway(text=f"vLLM did not load {name}: {await answer.text()}\n")
        self.digests.pop(name, None)
        self.digests[name] = digest

    async def _unload_oldest(self, component: str) -> None:
        """Those that were loaded first go, whatever their number: an evaluator may bring the best of earlier steps."""
        held = {served_name(component, version) for version in await self.versions(component)}
        unknown, known = held.difference(self.digests), [name for name in self.digests if name in held]
        for name in [*sorted(unknown), *known][: -self.settings.keep]:
            async with self.ask("POST", "/v1/unload_lora_adapter", json={"lora_name": name}) as answer:
                if answer.status != 200:
                    logger.warning("vLLM did not unload %s: %s", name, await answer.text())
            shutil.rmtree(self.settings.directory / name, ignore_errors=True)
            self.digests.pop(name, None)


def _remembered(directory: Path) -> dict[str, str]:
    """What an agent before this one had loaded, oldest first: it may have been restarted alone."""
    files = sorted(directory.glob(f"*/{_DIGEST}"), key=lambda path: path.stat().st_mtime)
    return {path.parent.name: path.read_text(encoding="utf-8") for path in files}


_AGENT: web.AppKey[_Agent] = web.AppKey("agent", _Agent)


def agent_app(settings: AgentSettings) -> tuple[web.Application, web.Application]:
    """The agent's two servers: the one that asks for the key (but for its probes), and the one for metrics."""
    app = web.Application(middlewares=[_with_key], client_max_size=_LONGEST_REQUEST)
    inside = web.Application()
    app.router.add_put("/policies/{component}/{version:\\d{1,9}}", _put_policy)
    app.router.add_get("/policies/{component}", _get_policy)
    app.router.add_get("/healthz", _healthy)
    app.router.add_get("/readyz", _ready)
    app.router.add_route("*", "/{path:.*}", _forward)
    inside.router.add_get("/metrics", _metrics)
    inside.router.add_get("/progress", _progress)

    async def connected(_app: web.Application) -> AsyncIterator[None]:
        settings.directory.mkdir(parents=True, exist_ok=True)
        for left_over in settings.directory.glob(f"{_INCOMING}*"):
            shutil.rmtree(left_over)
        timeout = ClientTimeout(total=None, connect=5, sock_read=600)
        async with ClientSession(timeout=timeout) as session:
            app[_AGENT] = inside[_AGENT] = _Agent(settings, session)
            yield

    app.cleanup_ctx.append(connected)
    return app, inside


@web.middleware
async def _with_key(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Refuses requests without the key before a byte of their body is read; tells the upstream's troubles apart."""
    agent = request.app[_AGENT]
    if request.path in _PROBES:
        return await handler(request)
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if not hmac.compare_digest(given.encode(errors="surrogateescape"), agent.settings.key.encode()):
        raise web.HTTPUnauthorized(text="the key of this component is required\n")
    try:
        return await handler(request)
    except PolicyError as error:
        agent.metrics.pushes.labels("refused").inc()
        raise web.HTTPBadRequest(text=f"{error}\n") from None
    except web.RequestPayloadError as error:
        raise web.HTTPBadRequest(text=f"the body cannot be read: {error}\n") from None
    except (ClientError, TimeoutError) as error:
        raise web.HTTPServiceUnavailable(text=f"vLLM does not answer: {error}\n") from None


def _refuse_above(limit: int, size: int) -> None:
    """By the length that a body claims before any of it is read, and by what has come."""
    if size > limit:
        raise web.HTTPRequestEntityTooLarge(limit, size)


async def _put_policy(request: web.Request) -> web.StreamResponse:
    agent, component = request.app[_AGENT], request.match_info["component"]
    check_component(component)
    version = int(request.match_info["version"])
    if version == 0:  # the base model: nothing to load, but vLLM must be up to hold it
        await agent.held()
        return web.json_response({"component": component, "version": 0, "bytes": 0, "seconds": {}})
    taken = await agent.take(component, version, request)
    agent.metrics.pushes.labels("taken").inc()
    return web.json_response(taken)


async def _get_policy(request: web.Request) -> web.StreamResponse:
    """The versions of a component that vLLM holds, and what they consist of: a client need not send those again."""
    agent, component = request.app[_AGENT], request.match_info["component"]
    check_component(component)
    versions = await agent.versions(component)
    digests = {version: agent.digests.get(served_name(component, version)) for version in versions}
    return web.json_response({"component": component, "versions": versions, "sha256": digests})


async def _forward(request: web.Request) -> web.StreamResponse:
    """Passes an allowed request on to vLLM and its answer back, as it comes."""
    if (request.method, request.path) not in _FORWARDED or request.query_string:
        raise web.HTTPNotFound(text="not a path that rollouts need\n")
    _refuse_above(_LONGEST_REQUEST, request.content_length or 0)
    headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
    body = await request.read()
    async with request.app[_AGENT].ask(request.method, request.path, data=body, headers=headers) as answer:
        return await _passed_back(request, answer)


async def _passed_back(request: web.Request, answer: ClientResponse) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status)
    response.content_type = answer.content_type
    await response.prepare(request)
    async for chunk in answer.content.iter_any():
        await response.write(chunk)
    await response.write_eof()
    return response


async def _healthy(_request: web.Request) -> web.Response:
    return web.Response(text="alive\n")


async def _ready(request: web.Request) -> web.Response:
    """Ready when vLLM serves: the base model is version 0, so that a fresh server holds a version."""
    try:
        await request.app[_AGENT].held()
    except (ClientError, TimeoutError) as error:
        raise web.HTTPServiceUnavailable(text=f"vLLM does not answer yet: {error}\n") from None
    return web.Response(text="ready\n")


async def _metrics(request: web.Request) -> web.Response:
    """vLLM's metrics and the agent's own, in one page."""
    agent = request.app[_AGENT]
    own = generate_latest(agent.metrics.registry)
    try:
        async with agent.ask("GET", "/metrics") as answer:
            own += await answer.read()
    except (ClientError, TimeoutError):
        own += b"# vLLM does not answer\n"
    return web.Response(body=own, headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _progress(request: web.Request) -> web.Response:
    """The oldest of the components' newest versions, as the operator reads it."""
    agent = request.app[_AGENT]
    newest: dict[str, int] = {}
    try:
        names = await agent.held()
    except (ClientError, TimeoutError) as error:
        raise web.HTTPServiceUnavailable(text=f"vLLM does not answer: {error}\n") from None
    for component, version in filter(None, map(version_in, names)):
        newest[component] = max(newest.get(component, 0), version)
    return web.json_response({"policyVersion": {"rollout": min(newest.values(), default=0)}})


async def serve(settings: AgentSettings, host: str, port: int, metrics_port: int) -> None:
    """Serves until cancelled; a client that goes away cancels its request at vLLM too."""
    outer, inner = agent_app(settings)
    runners = [web.AppRunner(app, handler_cancellation=True, access_log=None) for app in (outer, inner)]
    try:
        for runner, at in zip(runners, (port, metrics_port), strict=True):
            await runner.setup()
            await web.SockSite(runner, listening(host, at)).start()
        await asyncio.Event().wait()
    finally:
        for runner in reversed(runners):
            await runner.cleanup()
