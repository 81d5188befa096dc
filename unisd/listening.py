"""Where servers listen: at one address, or at every address of the machine, IPv6 and IPv4 alike.

Clusters give their pods addresses of either family, or of both; containers may have IPv6 switched off. Called by the
policy agent, the grader, metrics, the operator, and the local runner for its servers. Says nothing of what is served.
"""

import contextlib
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def every_address() -> str:
    """`::`, where IPv4 arrives too, or `0.0.0.0` on a machine without IPv6."""
    return "::" if socket.has_dualstack_ipv6() else "0.0.0.0"


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens at an address of either family. `::` is every address, of IPv4 too, and of that alone where
    the machine has no IPv6."""
    host = every_address() if host == "::" else host
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, dualstack_ipv6=host == "::")


def free_ports(count: int) -> list[int]:
    """Ports of the loopback address that nobody uses now, each another."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for opened in sockets:
            opened.bind(("127.0.0.1", 0))
        return [opened.getsockname()[1] for opened in sockets]


class HttpServer(ThreadingHTTPServer):
    """The standard library's server, which by itself knows IPv4 alone, at such a socket."""

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        opened = listening(*address)
        super().__init__(opened.getsockname()[:2], handler, bind_and_activate=False)
        self.socket.close()
        self.socket = opened

    def handle_error(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        """Says nothing of clients that break off: who asks every few seconds would fill the log."""
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)
