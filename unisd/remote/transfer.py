"""A carrier pod while it lives, and commands in it whose input and output are files here.

Called by `remote.fetch`. Knows nothing of what travels. Frames of the web socket are read one at a time: the client's
own reader collects whatever has arrived, which for a whole model is more than memory holds.
"""

import io
import json
import select
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from kubernetes import client, stream
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import ws_client
from websocket import ABNF, WebSocketException

from unisd.remote.carrier import CONTAINER, Place, carrier_pod
from unisd.remote.cluster import TIMEOUT, Cluster, ClusterError, translated

_STDIN, _STDOUT, _STDERR, _STATUS = range(4)
_CLOSE = 255
_SILENCE_SECONDS = 120.0
_HOPELESS = ("ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError")


class Carrier:
    """A pod that runs and mounts the claim."""

    def __init__(self, core: Any, name: str, namespace: str) -> None:
        self._core, self._name, self._namespace = core, name, namespace

    def run(self, *command: str, reads: bool = False) -> "Session":
        """Starts a command in it, which `reads` its input or has none."""
        with translated(f"command in pod {self._name}"):
            answer = stream.stream(
                self._core.connect_get_namespaced_pod_exec,
                self._name,
                self._namespace,
                container=CONTAINER,
                command=list(command),
                stdin=reads,
                stdout=True,
                stderr=True,
                tty=False,
                binary=True,
                _preload_content=False,
            )
        return Session(answer.sock)


class Session(io.RawIOBase):
    """A command in a pod: what it prints is read, what is written goes to its input.

    The end of its output is the end of the file only if it ended well; reading raises ClusterError with its last words
    if not.
    """

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._socket.settimeout(_SILENCE_SECONDS)
        self._output = b""
        self._words, self._status = bytearray(), bytearray()
        self._open = True

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._output and self._receive():
            pass
        if not self._output:
            self._check()
        count = min(len(buffer), len(self._output))
        buffer[:count], self._output = self._output[:count], self._output[count:]
        return count

    def write(self, data: Any) -> int:
        while self._has_news():
            if not self._receive():
                self._check()
        try:
            self._socket.send(bytes([_STDIN]) + bytes(data), opcode=ABNF.OPCODE_BINARY)
        except (WebSocketException, OSError):
            self._end()  # it has ended before it read all, for a reason that it says
        return len(data)

    def finish(self) -> None:
        """Ends its input and waits for its own end. Raises ClusterError if it did not end well."""
        if self._open and self._socket.subprotocol == ws_client.V5_CHANNEL_PROTOCOL:
            self._socket.send(bytes([_CLOSE, _STDIN]), opcode=ABNF.OPCODE_BINARY)
        self._end()

    def close(self) -> None:
        """Leaves the command; the pod's end is its end."""
        self._socket.close()
        super().close()

    def _receive(self) -> bool:
        """Takes in one frame; False once there are no more."""
        if not self._open:
            return False
        try:
            code, frame = self._socket.recv_data_frame(True)
        except (WebSocketException, OSError) as error:
            raise ClusterError(f"the connection to the pod was lost: {error}") from None
        if code == ABNF.OPCODE_CLOSE:
            self._open = False
        elif code in (ABNF.OPCODE_BINARY, ABNF.OPCODE_TEXT) and frame.data:
            self._sort(frame.data[0], frame.data[1:])
        return self._open

    def _sort(self, channel: int, data: bytes) -> None:
        if channel == _STDOUT:
            self._output += data
        elif channel == _STDERR:
            self._words += data
        elif channel == _STATUS:
            self._status += data

    def _has_news(self) -> bool:
        """Whether something arrives before more can be sent: a command that ends early takes nothing any more."""
        if not self._open:
            return False
        ready, _, _ = select.select([self._socket.sock], [self._socket.sock], [], _SILENCE_SECONDS)
        return bool(ready)

    def _end(self) -> None:
        while self._receive():
            pass
        self._check()

    def _check(self) -> None:
        status = json.loads(self._status) if self._status else {"message": "the connection to the pod was lost"}
        if status.get("status") != "Success":
            words = self._words.decode(errors="replace").strip()
            raise ClusterError(words or str(status.get("message", "the command failed")))


@contextmanager
def carrier(cluster: Cluster, place: Place, *, read_only: bool, timeout: float) -> Iterator[Carrier]:
    """A carrier while the block runs; its pod is removed afterwards, whatever happens.

    Raises:
        ClusterError: it cannot be made, or does not run in time, in the words of whoever holds it up.
    """
    core: Any = client.CoreV1Api()
    with translated("a pod that mounts the claim"):
        pod = carrier_pod(place, read_only=read_only)
        made = core.create_namespaced_pod(cluster.namespace, pod, _request_timeout=TIMEOUT)
    name = made.metadata.name
    try:
        _wait(core, name, cluster.namespace, time.monotonic() + timeout)
        yield Carrier(core, name, cluster.namespace)
    finally:
        try:
            core.delete_namespaced_pod(name, cluster.namespace, grace_period_seconds=0, _request_timeout=TIMEOUT)
        except ApiException as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise ClusterError(f"pod {name} could not be removed: {error.reason}; remove it yourself") from None


def _wait(core: Any, name: str, namespace: str, deadline: float) -> None:
    while True:
        with translated(f"pod {name}"):
            pod = core.read_namespaced_pod(name, namespace, _request_timeout=TIMEOUT)
        if pod.status.phase == "Running":
            return
        why, hopeless = _held_up(pod)
        if hopeless or time.monotonic() > deadline:
            raise ClusterError(f"pod {name}, which mounts the claim, does not run: {why}")
        time.sleep(0.5)


def _held_up(pod: Any) -> tuple[str, bool]:
    """What a pod waits for, and whether waiting is of no use."""
    if pod.status.phase in ("Failed", "Succeeded"):
        return pod.status.message or pod.status.reason or "it has ended", True
    states: Sequence[Any] = [one.state.waiting for one in pod.status.container_statuses or ()]
    for waiting in filter(None, states):
        return f"{waiting.reason}: {waiting.message or 'see kubectl describe pod'}", waiting.reason in _HOPELESS
    conditions = [one for one in pod.status.conditions or () if one.status == "False" and one.message]
    return (conditions[0].message if conditions else "it has no node yet"), False
