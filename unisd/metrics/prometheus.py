"""`/metrics` and `/progress` of a stage's process, so that status and metrics have one source.

Started by the training stage, and by `unisd STAGE` in a pod for the others; serves until the stage ends. Binds to
loopback unless `UNISD_METRICS_HOST` says otherwise; in a pod it is `::`, every address.
"""

import json
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from unisd.files import write_json
from unisd.listening import HttpServer
from unisd.metrics.names import STEP_METRICS
from unisd.metrics.progress import Progress

logger = logging.getLogger(__name__)
_TIMEOUT_SECONDS = 10
"""Time after which a client that says nothing is left."""


class MetricsServer:
    """Serves the newest state of one training."""

    def __init__(self, progress: Progress, component: str) -> None:
        """Listens at `UNISD_METRICS_PORT`, or at a free port."""
        self._progress = progress
        self._registry = CollectorRegistry()
        labels = {"component": component}
        self._gauges = {
            name: Gauge(f"unisd_train_{name}", text, list(labels), registry=self._registry).labels(**labels)
            for name, text in {
                "step": "optimiser steps done",
                "total_steps": "optimiser steps in all",
                "checkpoint_step": "optimiser step of the newest complete checkpoint",
                "policy_version": "version of the policy that the trainer holds",
                "rollout_policy_version": "version of the policy that the rollout server farthest behind holds",
                **STEP_METRICS,
            }.items()
        }
        address = (os.environ.get("UNISD_METRICS_HOST", "127.0.0.1"), int(os.environ.get("UNISD_METRICS_PORT", "0")))
        self._server = HttpServer(address, self._handler())
        self.port: int = self._server.server_address[1]

    def start(self, endpoint: Path | None = None) -> None:
        """Begins to serve; writes host and port to `endpoint`."""
        threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()
        if endpoint is not None:
            write_json(endpoint, {"host": self._server.server_address[0], "port": self.port})

    def stop(self) -> None:
        """Ends serving and frees the port."""
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, path: str) -> tuple[str, bytes] | None:
        snapshot = self._progress.snapshot
        if path == "/progress":
            return "application/json", json.dumps(snapshot).encode()
        if path != "/metrics":
            return None
        for name, value in {**_figures(snapshot), **snapshot.get("metrics", {})}.items():
            self._gauges[name].set(value)
        return CONTENT_TYPE_LATEST, generate_latest(self._registry)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        answer = self._answer

        class Handler(BaseHTTPRequestHandler):
            timeout = _TIMEOUT_SECONDS

            def do_GET(self) -> None:
                found = answer(self.path)
                self.send_response(200 if found else 404)
                kind, body = found or ("text/plain", b"try /metrics or /progress\n")
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Says nothing: a scrape every few seconds would fill the log."""

        return Handler


@contextmanager
def served(progress: Progress, name: str, endpoint: Path | None = None) -> Iterator[None]:
    """Serves within the block; where it cannot, it says so, and the stage goes on."""
    try:
        server = MetricsServer(progress, name)
    except OSError as error:
        logger.warning("nothing is served of %s, progress.json tells of it: %s", name, error)
        yield
        return
    server.start(endpoint)
    try:
        yield
    finally:
        server.stop()


def _figures(snapshot: dict[str, Any]) -> dict[str, float]:
    """What a snapshot holds beside the metrics of its step, by the names of gauges."""
    policy = snapshot.get("policyVersion", {})
    found = {
        "step": snapshot.get("step"),
        "total_steps": snapshot.get("totalSteps"),
        "checkpoint_step": snapshot.get("checkpoint", {}).get("step"),
        "policy_version": policy.get("trainer"),
        "rollout_policy_version": policy.get("rollout"),
    }
    return {name: value for name, value in found.items() if value is not None}
