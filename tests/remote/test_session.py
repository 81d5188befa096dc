"""A command's streams over the frames of a web socket: the end of its output counts only if it ended well."""

import io
import json
import socket
import tarfile
from types import SimpleNamespace

import pytest
from websocket import ABNF, WebSocketConnectionClosedException

from unisd.parcel import unpack
from unisd.remote.cluster import ClusterError
from unisd.remote.transfer import Session

GOOD = json.dumps({"status": "Success"}).encode()
BAD = json.dumps({"status": "Failure", "message": "command terminated with exit code 1"}).encode()


class Frames:
    """What arrives, in order; then the connection closes, or is lost."""

    subprotocol = "v5.channel.k8s.io"

    def __init__(self, *frames, lost=False, deaf=False, early=False):
        self.frames, self.lost, self.deaf, self.sent = list(frames), lost, deaf, []
        self.sock, self._end = socket.socketpair()
        if early:
            self._end.send(b"there is something to read")

    def settimeout(self, seconds): ...

    def close(self):
        self.sock.close()
        self._end.close()

    def recv_data_frame(self, control):
        if self.frames:
            channel, data = self.frames.pop(0)
            return ABNF.OPCODE_BINARY, SimpleNamespace(data=bytes([channel]) + data)
        if self.lost:
            raise WebSocketConnectionClosedException("gone")
        return ABNF.OPCODE_CLOSE, SimpleNamespace(data=b"")

    def send(self, data, opcode):
        if self.deaf:
            raise WebSocketConnectionClosedException("gone")
        self.sent.append(data)


def test_what_a_command_prints_is_read_as_a_file():
    with Session(Frames((1, b"one "), (2, b"a remark"), (1, b"two"), (3, GOOD))) as session:
        assert session.read() == b"one two"


@pytest.mark.parametrize(
    ("frames", "lost", "words"),
    [
        ([(1, b"half"), (2, b"no such file\n"), (3, BAD)], False, "^no such file$"),
        ([(1, b"half"), (3, BAD)], False, "exit code 1"),
        ([(1, b"half")], False, "connection to the pod was lost"),
        ([(1, b"half")], True, "connection to the pod was lost: gone"),
    ],
)
def test_output_that_breaks_off_is_no_file(frames, lost, words):
    with Session(Frames(*frames, lost=lost)) as session, pytest.raises(ClusterError, match=words):
        session.read()


def test_a_parcel_that_breaks_off_between_two_files_leaves_nothing(tmp_path):
    """A tar stream may end there without its reader noticing."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in ("content/one", "content/two"):
            member = tarfile.TarInfo(name)
            member.size = 512
            archive.addfile(member, io.BytesIO(bytes(512)))
    with Session(Frames((1, out.getvalue()[:1024]), lost=True)) as session, pytest.raises(ClusterError, match="lost"):
        unpack(session, tmp_path / "there")
    assert list(tmp_path.iterdir()) == []


def test_input_is_sent_and_ended():
    frames = Frames((3, GOOD))
    with Session(frames) as session:
        session.write(b"rows")
        session.finish()
    assert frames.sent == [b"\x00rows", bytes([255, 0])]


@pytest.mark.parametrize("how", [{"deaf": True}, {"early": True}])
def test_a_command_that_stops_reading_says_why(how):
    """At once, too, where its end is known before it is noticed that nobody takes what is sent."""
    frames = Frames((2, b"no space left"), (3, BAD), **how)
    with Session(frames) as session, pytest.raises(ClusterError, match="no space left"):
        session.write(b"rows")
    assert frames.sent == []
