"""JSON that containers give: termination messages and answers of `/progress`. Pure; called by `status` and `cluster`.

A run names its own images, so whoever makes one decides what stands there. It must not end the operator, nor come into
a status that nobody can write.
"""

import json
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
