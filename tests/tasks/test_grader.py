"""The grader and its client: what is refused, what waits, what is asked again; attacks are `test_sandbox`'s."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.cluster.waiting import eventually
from unisd.failures import StageError
from unisd.tasks import grader as module
from unisd.tasks.grader import MAX_BODY_BYTES, Grader
from unisd.tasks.grading import ask, verdicts
from unisd.tasks.sandbox import Program

RIGHT = Program("def f(x):\n    return x + 1", ("assert f(1) == 2",))
WRONG = Program("def f(x):\n    return x", ("assert f(1) == 2",))
ROOT = Path(__file__).parents[2]


@pytest.fixture
def grader():
    """A grader that judges one program at a time."""
    with Grader(("127.0.0.1", 0), at_once=1) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def service(grader):
    """Its address."""
    return f"127.0.0.1:{grader.server_address[1]}"


def send(service, method, path, body=None, **headers):
    connection = HTTPConnection(service, timeout=120)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_programs_go_to_the_grader_where_there_is_one(service, monkeypatch):
    monkeypatch.setattr("unisd.tasks.grading.run_programs", None)
    monkeypatch.setenv("UNISD_GRADER_SERVICE", service)
    assert [verdict.outcome for verdict in verdicts([RIGHT, WRONG, RIGHT])] == ["passed", "failed", "passed"]


def test_it_says_that_it_works(service):
    assert send(service, "GET", "/healthz") == (200, {"status": "ok"})


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/grade", None, 404),
        ("POST", "/other", b"{}", 404),
        ("POST", "/grade", b"no JSON", 400),
        ("POST", "/grade", b"[" * 100_000, 400),
        ("POST", "/grade", b'{"source": "x"}', 400),
        ("POST", "/grade", b'{"source": "x", "tests": [1], "setup": "", "entry": []}', 400),
        ("POST", "/grade", b'{"source": "x", "tests": [], "setup": "", "entry": [], "limits": {}}', 400),
    ],
)
def test_what_is_no_program_is_refused(service, method, path, body, status):
    assert send(service, method, path, body)[0] == status
    assert ask(service, RIGHT).passed


@pytest.mark.parametrize(
    ("length", "status"),
    [
        (str(MAX_BODY_BYTES + 1), b"413"),
        ("9" * 5000, b"413"),
        ("", b"411"),
        ("-1", b"411"),
        ("0x10", b"411"),
        ("\xb2", b"411"),
    ],
)
def test_a_body_of_a_length_that_will_not_do_is_not_read(service, length, status):
    with socket.create_connection(service.split(":")) as connection:
        connection.sendall(f"POST /grade HTTP/1.1\r\nContent-Length: {length}\r\n\r\n".encode("latin-1"))
        assert connection.recv(4096).split()[1] == status


def test_a_program_as_large_as_may_be_is_read(service):
    assert ask(service, Program("x" * MAX_BODY_BYTES, RIGHT.tests)).outcome == "error"


def test_too_many_wait_no_longer_than_they_may(grader, service, monkeypatch):
    monkeypatch.setattr(module, "MAX_WAIT_SECONDS", 0.2)
    body = json.dumps({"source": "", "tests": [], "setup": "", "entry": []}).encode()
    with grader._turns:  # another program is judged
        assert send(service, "POST", "/grade", body)[0] == 503
    assert ask(service, RIGHT).passed


def test_more_connections_than_there_are_places_are_closed(monkeypatch):
    monkeypatch.setattr(module, "MAX_CONNECTIONS", 2)
    with Grader(("127.0.0.1", 0)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = server.server_address
        mute = [socket.create_connection(address) for _ in range(2)]
        with socket.create_connection(address) as third:
            third.settimeout(120)
            assert third.recv(1) == b""
        for connection in mute:
            connection.close()
        assert ask(f"127.0.0.1:{address[1]}", RIGHT).passed
        server.shutdown()


def test_a_grader_that_starts_late_is_waited_for_and_one_that_never_does_is_told():
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()
    with pytest.raises(
        StageError, match=rf"grader at 127.0.0.1:{address[1]} gave no verdict for 1 s \(ConnectionRefused"
    ):
        ask(f"127.0.0.1:{address[1]}", RIGHT, patience=1.0)
    found = []
    asking = threading.Thread(target=lambda: found.append(ask(f"127.0.0.1:{address[1]}", RIGHT)))
    asking.start()
    time.sleep(0.5)
    with Grader(address) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        asking.join(120)
        server.shutdown()
    assert [verdict.outcome for verdict in found] == ["passed"]


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root to be a first process")
def test_as_the_first_process_of_a_container_it_collects_orphans_and_ends_on_sigterm():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = f"from unisd.cli import main\nmain(['grader', '--host', '127.0.0.1', '--port', '{port}'])"
    command = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", program]
    outside = subprocess.Popen(command, cwd=ROOT)
    try:
        forks = Program("import os\nfor _ in range(3):\n    os.fork()\n" + RIGHT.source, RIGHT.tests)
        assert ask(f"127.0.0.1:{port}", RIGHT).passed
        for _ in range(3):
            ask(f"127.0.0.1:{port}", forks)
        (first,) = children(outside.pid)
        eventually(lambda: len(children(first)) == 1)  # the server alone is left
        os.kill(first, signal.SIGTERM)
        assert outside.wait(120) == 0
    finally:
        outside.kill()
        outside.wait()


def children(pid):
    return [int(found) for found in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
