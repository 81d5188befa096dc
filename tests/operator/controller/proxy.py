"""Stands between an operator and the API server: counts requests, freezes connections, tells of each request's end.

Speaks plain HTTP to the operator, and TLS with the administrator's certificate to the API server, on behalf of a user of
its own, so that the audit log tells two replicas apart.
"""

import asyncio
import base64
import contextlib
import json
import ssl
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import ClientSession, ClientTimeout, TCPConnector, web

from tests.cluster.cluster import Cluster
from tests.cluster.waiting import PATIENCE

_HOP = {"host", "connection", "transfer-encoding", "content-length", "keep-alive"}


class Proxy:
    """`with Proxy(cluster, "operator-a") as proxy:` serves at `proxy.server`.

    Args:
        cluster: the cluster behind it.
        user: who the API server takes the operator for.
        after: called with method and path after a request has been carried out and before its answer is passed on.
    """

    def __init__(self, cluster: Cluster, user: str, after: Callable[[str, str], None] | None = None):
        self._cluster, self.user, self._after = cluster, user, after
        self.server = ""
        self._loop = asyncio.new_event_loop()
        self._flowing: asyncio.Event | None = None
        self._watches: list[asyncio.Event] = []
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, name=f"proxy {user}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(PATIENCE), "the proxy did not start"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.thaw()
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)

    def freeze(self) -> None:
        """From now on nothing is passed on, in either direction; connections stay open."""
        assert self._flowing is not None
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def thaw(self) -> None:
        """Passes everything on again, what was held back included."""
        assert self._flowing is not None
        self._loop.call_soon_threadsafe(self._flowing.set)

    def deafen(self) -> None:
        """The connections of watches that are open now pass nothing on any more; all others do."""
        self._loop.call_soon_threadsafe(self._deafen)

    def _deafen(self) -> None:
        for heard in self._watches:
            heard.clear()

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:  # which cancels what is left in the end
            runner.run(self._main())

    async def _main(self) -> None:
        self._flowing, self._stop = asyncio.Event(), asyncio.Event()
        self._flowing.set()
        connector = TCPConnector(ssl=tls(self._cluster), limit=0)
        async with ClientSession(
            connector=connector, timeout=ClientTimeout(total=None), auto_decompress=False
        ) as client:
            self._client = client
            runner = web.AppRunner(_application(self._handle), shutdown_timeout=0.5)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
            self.server = f"http://127.0.0.1:{port}"
            self._ready.set()
            await self._stop.wait()
            await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        assert self._flowing is not None
        flowing = self._flowing
        await flowing.wait()
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        headers |= {"Impersonate-User": self.user, "Impersonate-Group": "system:masters"}
        body = await request.read()
        url = f"{self._cluster.server}{request.rel_url}"
        async with self._client.request(request.method, url, headers=headers, data=body or None) as answer:
            passed = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP}
            if request.query.get("watch") != "true":
                content = await answer.read()
                if self._after is not None:
                    self._after(request.method, request.path)
                await flowing.wait()
                return web.Response(status=answer.status, headers=passed, body=content)
            response = web.StreamResponse(status=answer.status, headers=passed)
            await response.prepare(request)
            heard = asyncio.Event()
            heard.set()
            self._watches.append(heard)
            with contextlib.suppress(ConnectionError):  # the operator was killed
                async for chunk in answer.content.iter_any():
                    await flowing.wait()
                    await heard.wait()
                    await response.write(chunk)
            return response


def _application(handle: Callable[[web.Request], object]) -> web.Application:
    application = web.Application(client_max_size=2**24)
    application.router.add_route("*", "/{path:.*}", handle)  # type: ignore[arg-type]
    return application


def tls(cluster: Cluster) -> ssl.SSLContext:
    """What the administrator needs to be let in."""
    content = json.loads(cluster.kubeconfig.read_text())
    server, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
    context = ssl.create_default_context(cadata=base64.b64decode(server["certificate-authority-data"]).decode())
    with tempfile.TemporaryDirectory() as folder:
        pair = Path(folder) / "pair.pem"
        pair.write_bytes(
            base64.b64decode(user["client-certificate-data"]) + b"\n" + base64.b64decode(user["client-key-data"])
        )
        context.load_cert_chain(pair)
    return context
