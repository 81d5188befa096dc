"""`GET /healthz`: whether the operator still hears of the cluster. The kubelet asks; called by `process`.

kopf's own endpoint would listen at addresses of one family. Says nothing of who leads, nor of runs.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from unisd.listening import listening
from unisd_operator.metrics import Metrics

STUCK_SECONDS = 300.0
"""Seconds without a watch event and without a finished resync after which the process is taken for stuck."""


@asynccontextmanager
async def served(metrics: Metrics, port: int) -> AsyncIterator[int]:
    """Answers within the block; gives the port that it listens at."""

    async def answer(_request: web.Request) -> web.Response:
        age = time.monotonic() - max(metrics.watched, metrics.resynced)
        if age > STUCK_SECONDS:
            raise web.HTTPServiceUnavailable(text=f"no watch event and no resync for {age:.0f} s\n")
        return web.json_response({"alive": round(age, 1)})

    app = web.Application()
    app.router.add_get("/healthz", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        opened = listening("::", port)
        await web.SockSite(runner, opened).start()
        yield opened.getsockname()[1]
    finally:
        await runner.cleanup()
