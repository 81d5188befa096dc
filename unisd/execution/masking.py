"""Keeps the secrets of this process's environment out of what it says, by their values.

Used at the edges of a process: its two streams and its termination message. What a secret is follows from the name of
the variable that holds it.
"""

import os
import re
import sys
from collections.abc import Iterable, Mapping
from typing import TextIO

MASK = "***"
_SECRET_NAME = re.compile(
    r"(^|_)(API|ACCESS)?(TOKEN|KEY|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|PAT)(_|$)", re.IGNORECASE
)
_IN_URL = re.compile(r"://[^/@\s]*:([^/@\s]+)@")
_SHORTEST = 8
"""Shorter values are words that a text may hold by chance."""


def secrets_in(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The secret values of an environment, the longest first: of variables so named, and passwords in URLs."""
    found: set[str] = set()
    for name, value in environment.items():
        if _SECRET_NAME.search(name):
            found.update(value.splitlines())
        found.update(_IN_URL.findall(value))
    return tuple(sorted((value for value in found if len(value) >= _SHORTEST), key=lambda value: (-len(value), value)))


def masked(text: str, secrets: Iterable[str]) -> str:
    """The text without the secrets."""
    for secret in secrets:
        text = text.replace(secret, MASK)
    return text


def mask_output() -> None:
    """From now on what this process prints and logs is masked."""
    secrets = secrets_in(os.environ)
    if secrets:
        sys.stdout, sys.stderr = _Masked(sys.stdout, secrets), _Masked(sys.stderr, secrets)


class _Masked:
    """A text stream that masks whole lines, so that a secret that comes in pieces is found too."""

    def __init__(self, stream: TextIO, secrets: tuple[str, ...]) -> None:
        self._stream, self._secrets, self._open = stream, secrets, ""

    def write(self, text: str) -> int:
        lines, newline, self._open = (self._open + text).rpartition("\n")
        self._stream.write(masked(lines, self._secrets) + newline)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        self.write("".join(lines))

    def flush(self) -> None:
        self._stream.write(masked(self._open, self._secrets))
        self._open = ""
        self._stream.flush()

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)
