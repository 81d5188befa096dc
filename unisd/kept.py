"""Rows that are kept under a hash of everything they depend on, so that nobody makes them twice.

Called by whatever is slow to make and depends on contents alone, never on paths: texts of contexts, evaluations.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from unisd.files import Json, read_jsonl, write_jsonl


def kept_rows(folder: Path, inputs: object, make: Callable[[], list[Json]]) -> list[Json]:
    """The rows that depend on `inputs` alone: as they were made, or made now."""
    name = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:32]
    path = folder / f"{name}.jsonl"
    if not path.is_file():
        write_jsonl(path, make())
    return read_jsonl(path)
