"""What anybody may have written, read without trust: JSON of containers, numbers in labels and limits. Pure.

A run names its own images, so whoever makes one decides what stands there. It must not end the operator, nor come into
a status that nobody can write.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any


def parsed(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is none, is nested too deeply, or holds halves of characters, which no text can.
    """
    try:
        value = json.loads(text)
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
    return value


def whole_number(value: object) -> int:
    """A number as labels and limits have it; 0 for anything else."""
    text = str(value)
    return int(text) if text.isdecimal() else 0


def gpus_of(containers: Iterable[Mapping[str, Any]], resource: str) -> int:
    """GPUs that containers ask for, by the name of their resource."""
    return sum(whole_number(one.get("resources", {}).get("limits", {}).get(resource, "0")) for one in containers)
