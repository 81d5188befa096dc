"""Servers on machines with IPv4, with both families, and without IPv6."""

import http.client
import socket
import threading
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import pytest

from unisd.listening import HttpServer, every_address, listening


class Empty(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(204)
        self.end_headers()

    def log_message(self, format, *args):  # noqa: A002
        """Says nothing."""


@contextmanager
def served(host):
    with HttpServer((host, 0), Empty) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def status(server, loopback):
    with urllib.request.urlopen(f"http://{loopback}:{server.server_address[1]}/", timeout=60) as answer:
        return answer.status


def has(address, family):
    """Whether this machine has an address."""
    try:
        socket.create_server((address, 0), family=family).close()
    except OSError:
        return False
    return True


LOOPBACKS = ["127.0.0.1"] + (["[::1]"] if has("::1", socket.AF_INET6) else [])


@pytest.mark.parametrize("loopback", LOOPBACKS)
def test_two_colons_are_every_address_of_both_families(loopback):
    with served("::") as server:
        assert status(server, loopback) == 204


@pytest.mark.parametrize("loopback", LOOPBACKS)
def test_an_address_of_either_family_is_listened_at_alone(loopback):
    host = loopback.strip("[]")
    with served(host) as server:
        assert server.socket.getsockname()[0] == host
        assert status(server, loopback) == 204


def test_without_ipv6_it_is_every_address_of_ipv4(monkeypatch):
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    assert every_address() == "0.0.0.0"
    with listening("::", 0) as opened:
        assert (opened.family, opened.getsockname()[0]) == (socket.AF_INET, "0.0.0.0")
        socket.create_connection(("127.0.0.1", opened.getsockname()[1]), timeout=60).close()


def test_an_address_that_is_taken_is_told():
    with listening("127.0.0.1", 0) as taken, pytest.raises(OSError, match="in use"):
        HttpServer(("127.0.0.1", taken.getsockname()[1]), Empty)


@pytest.mark.parametrize(
    ("error", "told"), [(ConnectionResetError, ""), (BrokenPipeError, ""), (TimeoutError, ""), (KeyError, "KeyError")]
)
def test_clients_that_break_off_are_not_worth_a_word_and_mistakes_are(capfd, error, told):
    class Failing(Empty):
        def do_GET(self):
            raise error

    with HttpServer(("127.0.0.1", 0), Failing) as server:
        server.daemon_threads = False  # so that closing it waits for the answer
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises((OSError, http.client.HTTPException)):
            status(server, "127.0.0.1")
        server.shutdown()
    printed = capfd.readouterr().err
    assert told in printed
    assert bool(told) == bool(printed)
