"""A model hub on this machine, as far as a push needs one: the HTTP protocol of Hugging Face's library."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class FakeHub:
    """What was pushed to it."""

    token: str
    url: str = ""
    repositories: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What each was made with."""
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Contents by repository and path."""
    objects: dict[str, bytes] = field(default_factory=dict)
    """Contents of large files by their SHA-256."""
    broken: bool = False
    """Whether it answers 500 to everything."""
    seen: list[str] = field(default_factory=list)
    """Requests, in order."""


@contextmanager
def fake_hub(token: str) -> Iterator[FakeHub]:
    """A hub that lets the bearer of this token write."""
    hub = FakeHub(token)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def do_POST(self) -> None:
            body = self._body()
            hub.seen.append(self.path)
            if hub.broken:
                return self._answer(500, {"error": "out of order"})
            if self.headers["Authorization"] != f"Bearer {hub.token}":
                return self._answer(401, {"error": "Invalid username or password."})
            return self._answer(200, _post(hub, self.path.partition("?")[0], body))

        def do_PUT(self) -> None:
            hub.objects[self.path.rpartition("/")[2]] = self._body()
            self._answer(200, {})

        def _body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def _answer(self, status: int, value: object) -> None:
            text = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    return Handler


def _post(hub: FakeHub, path: str, body: bytes) -> object:
    """The answer to a request that is allowed."""
    if path == "/api/repos/create":
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        hub.repositories[name] = asked
        return {"url": f"{hub.url}/{name}", "id": name}
    if path == "/api/validate-yaml":
        return {"errors": [], "warnings": []}
    repository = "/".join(path.removeprefix("/api/models/").strip("/").split("/")[:2]).removesuffix(".git")
    if "/preupload/" in path:
        files = json.loads(body)["files"]
        return {"files": [{"path": f["path"], "uploadMode": _mode(f["path"]), "shouldIgnore": False} for f in files]}
    if path.endswith("/info/lfs/objects/batch"):
        wanted = json.loads(body)["objects"]
        uploads = [{**one, "actions": {"upload": {"href": f"{hub.url}/objects/{one['oid']}"}}} for one in wanted]
        return {"transfer": "basic", "objects": uploads}
    assert "/commit/" in path, path
    _commit(hub, repository, [json.loads(line) for line in body.splitlines()])
    return {"commitUrl": f"{hub.url}/{repository}/commit/{'0' * 40}", "commitOid": "0" * 40}


def _mode(path: str) -> str:
    return "lfs" if path.endswith(".safetensors") else "regular"


def _commit(hub: FakeHub, repository: str, operations: list[dict[str, Any]]) -> None:
    files = hub.files.setdefault(repository, {})
    for operation in operations:
        value = operation["value"]
        if operation["key"] == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif operation["key"] == "lfsFile":
            files[value["path"]] = hub.objects[value["oid"]]
