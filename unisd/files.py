"""Files that appear whole or not at all: text, JSON, JSON Lines, links; and how they are read back.

Called by every stage. Knows no run: where its files lie says `unisd.rundir`; whole directories are `unisd.sealed`'s.
"""

import json
import os
import socket
from pathlib import Path
from typing import Any

Json = dict[str, Any]


def own_staging(path: Path) -> Path:
    """Where this process makes what is to stand at `path`, and none of another pod: their process ids are all 1."""
    return path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}")


def write_text(path: Path, text: str) -> None:
    """Writes a file completely or not at all: a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = own_staging(path)
    with staging.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    staging.replace(path)


def write_json(path: Path, value: object) -> None:
    """Writes a value, completely or not at all."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False))


def share(directory: Path) -> None:
    """Lets whoever may read the directory read the weights in it: safetensors makes files for their owner alone."""
    readable = directory.stat().st_mode & 0o444
    for path in directory.rglob("*.safetensors"):
        path.chmod(path.stat().st_mode | readable)


def link(path: Path, target: Path) -> None:
    """Makes a link, in place of one that may be there."""
    staging = own_staging(path)
    staging.unlink(missing_ok=True)
    staging.symlink_to(target.absolute())
    staging.replace(path)


def read_json(path: Path) -> Any:
    """The value of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_jsonl(path: Path, rows: list[Json]) -> None:
    """Writes one object a line, completely or not at all."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_jsonl(path: Path) -> list[Json]:
    """The objects of a JSON Lines file."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]
