"""The grader: the sandbox in a process of its own, over HTTP. `unisd grader` starts it; `grading` is its client.

`POST /grade` takes one program as JSON and answers its verdict; `GET /healthz` says that it works. It bounds what
comes in: bodies, connections, programs at once; what is too much is answered 503, for the client to come again. Needs
the standard library alone, and nothing of the run: no claim, no secret, no way out.
"""

import json
import os
import signal
import threading
from contextlib import suppress
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler
from socket import socket
from typing import Any

from unisd.listening import HttpServer
from unisd.tasks.sandbox import Limits, Program, Verdict, run_programs

MAX_BODY_BYTES = 4 << 20
MAX_CONNECTIONS = 64
MAX_WAIT_SECONDS = 20.0
"""Time that a request waits for its turn."""


class Grader(HttpServer):
    """Grades at `address`, some programs at once, until it is shut down."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], at_once: int | None = None, limits: Limits | None = None) -> None:
        self._turns = threading.BoundedSemaphore(at_once or max(1, len(os.sched_getaffinity(0))))
        self._places = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._limits = limits or Limits()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begins with a connection, or closes it where there are too many."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: socket | tuple[bytes, socket], client_address: Any) -> None:
        """Serves a connection to its end."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def grade(self, program: Program) -> Verdict | None:
        """The verdict on a program; None if its turn did not come in time."""
        if not self._turns.acquire(timeout=MAX_WAIT_SECONDS):
            return None
        try:
            return run_programs([program], self._limits, workers=1)[0]
        finally:
            self._turns.release()


class _Handler(BaseHTTPRequestHandler):
    server: Grader
    timeout = 30

    def do_GET(self) -> None:
        if self.path == "/healthz":
            self._answer(200, {"status": "ok"})
        else:
            self._answer(404, {"error": "try POST /grade or GET /healthz"})

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if self.path != "/grade":
            self._answer(404, {"error": "try POST /grade"})
        elif not length.isdecimal():
            self._answer(411, {"error": "Content-Length is missing"})
        elif len(length) > len(str(MAX_BODY_BYTES)) or int(length) > MAX_BODY_BYTES:
            self._answer(413, {"error": f"more than {MAX_BODY_BYTES} bytes"})
        else:
            self._grade(self.rfile.read(int(length)))

    def _grade(self, body: bytes) -> None:
        try:
            program = _program(json.loads(body))
        except (ValueError, RecursionError) as error:
            self._answer(400, {"error": str(error)})
            return
        verdict = self.server.grade(program)
        if verdict is None:
            self._answer(503, {"error": "too many programs wait"})
        else:
            self._answer(200, asdict(verdict))

    def _answer(self, status: int, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Says nothing: a line a program would fill the log."""


def _program(told: object) -> Program:
    """A program as JSON holds it. Raises ValueError for what is none."""
    if not isinstance(told, dict) or set(told) != {"source", "tests", "setup", "entry"}:
        raise ValueError("a program has source, tests, setup and entry")
    texts, lists = [told["source"], told["setup"]], [told["tests"], told["entry"]]
    if not all(isinstance(found, list) for found in lists):
        raise ValueError("tests and entry are lists")
    if not all(isinstance(text, str) for text in (*texts, *lists[0], *lists[1])):
        raise ValueError("source, setup, tests and entry hold texts")
    return Program(told["source"], tuple(told["tests"]), told["setup"], tuple(told["entry"]))


def serve(host: str, port: int) -> None:
    """Grades until SIGTERM or Ctrl-C. As the first process of a container it collects what killed programs leave."""
    if os.getpid() != 1:
        _serve(host, port)
        return
    child = os.fork()
    if child == 0:
        _serve(host, port)
        return
    signal.signal(signal.SIGTERM, lambda *_signal: os.kill(child, signal.SIGTERM))
    while os.wait()[0] != child:
        pass


def _serve(host: str, port: int) -> None:
    with Grader((host, port)) as server:

        def stop(*_signal: object) -> None:
            threading.Thread(target=server.shutdown, daemon=True).start()

        signal.signal(signal.SIGTERM, stop)
        with suppress(KeyboardInterrupt):
            server.serve_forever()
