"""YAML files as kubectl reads them: a file in, plain data out, so that one manifest means the same in both places.

Called by `load`. Knows nothing of runs.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from unisd.config.base import ConfigError, Problem

_TAG = "tag:yaml.org,2002:"
# YAML 1.1, but for numbers as everybody writes them (2e-5), and without dates and numbers to the base of 60.
_INTEGER = r"[-+]?(0b_*[01][01_]*|0x_*[0-9a-fA-F][0-9a-fA-F_]*|0(o?[0-7_]*[0-7])?|[1-9][0-9_]*)"
_FLOAT = r"[-+]?([.][0-9]+|[0-9][0-9_]*([.][0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?[.](inf|Inf|INF)|[.](nan|NaN|NAN)"
_WORDS = (
    ("null", ("", *"~nN"), "|~|null|Null|NULL"),
    ("bool", "yYnNtTfFoO", "y|Y|yes|Yes|YES|n|N|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF"),
    ("int", "-+0123456789", _INTEGER),
    ("float", "-+.0123456789", _FLOAT),
    ("merge", "<", "<<"),
)
"""What a word without quotes is, by its first letter; whatever fits none is text."""


def read_yaml(path: Path) -> object:
    """The one document in a file; empty ones beside it do not count. Raises ConfigError."""
    try:
        found = yaml.load_all(path.read_text(encoding="utf-8"), Loader=_Loader)
        documents = [document for document in found if document is not None]
    except OSError as error:
        raise ConfigError([Problem("(file)", f"cannot be read: {error.strerror}")], str(path)) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError([Problem("(file)", f"is not YAML: {error}")], str(path)) from None
    if len(documents) != 1:
        raise ConfigError([Problem("(file)", "must hold exactly one document", len(documents))], str(path))
    return documents[0]


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    found: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    for kind, letters, pattern in _WORDS:
        for letter in letters:
            found.setdefault(letter, []).append((f"{_TAG}{kind}", re.compile(rf"(?:{pattern})\Z")))
    return found


class _Loader(yaml.SafeLoader):
    """A key that stands twice in a mapping is an error, not the last one's victory."""

    yaml_implicit_resolvers = _resolvers()
    bool_values = {**yaml.SafeLoader.bool_values, "y": True, "n": False}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == f"{_TAG}merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key} stands here twice", key_node.start_mark)
            seen |= {key} if isinstance(key, str) else set()
        return super().construct_mapping(node, deep)
