"""The rollout servers that a stage's environment names: a client of them, ready to use.

`UNISD_ROLLOUT_SERVICE` is host and port of a name that resolves to every server: in a cluster the headless Service of
the component, on one machine the server that the local runner started. Called by the stages that generate. Starts no
server.
"""

import os
import socket
from collections.abc import Callable, Sequence

from unisd.failures import StageError
from unisd.rollouts.vllm_engine import ClientSettings, VllmEngine


def servers(stop_ids: frozenset[int], stopped: Callable[[], bool] = lambda: False) -> VllmEngine:
    """A client of all servers of the environment, whichever there are when it asks.

    Args:
        stop_ids: tokens that end a completion.
        stopped: whether to give up waiting.

    Raises:
        StageError: BadInput, where the environment names none.
    """
    service, key = os.environ.get("UNISD_ROLLOUT_SERVICE", ""), os.environ.get("UNISD_API_KEY", "")
    host, _, port = service.rpartition(":")
    if not host or not port.isdigit() or not key:
        raise StageError(
            "BadInput",
            "spec.rollout.engine: vllm needs servers; UNISD_ROLLOUT_SERVICE (host:port) and UNISD_API_KEY name them, "
            f"here {service!r} and {'a' if key else 'no'} key. `unisd run` and the operator set both; else use "
            "transformers",
        )
    return VllmEngine(lambda: addresses(host, int(port)), ClientSettings(key, stop_ids, stopped=stopped))


def addresses(host: str, port: int) -> Sequence[str]:
    """URLs of every address that a name stands for now; none while the name is unknown."""
    try:
        found = socket.getaddrinfo(host, port, socket.AF_UNSPEC, socket.SOCK_STREAM)
    except socket.gaierror:
        return []
    return sorted({_url(str(address[0]), port) for *_, address in found})


def _url(address: str, port: int) -> str:
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
