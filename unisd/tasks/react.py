"""Tool calls in ReAct text (arXiv 2210.03629): found, compared as JSON, and replaced. Pure text; knows no data set.

A call is an `Action:` with the tool's name and an `Action Input:` with a JSON object. An argument whose value is null
or an empty text counts as not given. Arguments that are no JSON are compared as text.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ARGUMENTS = {"type": "object"}
"""JSON Schema of a call's input."""
_ACTION = re.compile(
    r"^[ \t>*_#`-]*action[ \t]*\d*[*_` \t]*:(.*?)(?=\baction[ _]input\b|$)", re.IGNORECASE | re.MULTILINE
)
_INPUT = re.compile(r"\baction[ _]input[ \t]*\d*[*_` \t]*:", re.IGNORECASE)
_LABEL = re.compile(
    r"^[ \t>*_#`-]*(?:thought|action|action[ _]input|observation|final answer)[ \t]*\d*[*_` \t]*:",
    re.IGNORECASE | re.MULTILINE,
)


@dataclass(frozen=True)
class Call:
    """One tool call."""

    name: str
    arguments: Any
    """What the input holds as JSON, or its text if it is none; an empty input is an empty object."""
    span: tuple[int, int] = (0, 0)
    """Where it stands in the text that it was found in."""
    optional: bool = False
    """Whether a reference leaves it open to make this call."""


def calls_in(text: str) -> list[Call]:
    """All tool calls of a text, in order."""
    found = []
    actions = list(_ACTION.finditer(text))
    for index, action in enumerate(actions):
        end = actions[index + 1].start() if index + 1 < len(actions) else len(text)
        begin = action.start() + len(action.group()) - len(action.group().lstrip())
        given = _INPUT.search(text, action.end(), end)
        arguments, stop = _arguments(text, given.end(), end) if given else ({}, action.end())
        name = tool_name(action.group(1))
        if name:
            found.append(Call(name, arguments, (begin, stop)))
    return found


def tool_name(text: str) -> str:
    """A tool's name without what may stand around it; references are read like completions."""
    return text.strip().strip("*_`\"'[]. ").removesuffix("()")


def _arguments(text: str, start: int, end: int) -> tuple[Any, int]:
    """What an input holds, and where it ends: a JSON object if one begins there, else its text up to the next label."""
    label = _LABEL.search(text, start, end)
    end = label.start() if label else end
    raw = text[start:end]
    brace = raw.find("{")
    if brace >= 0:
        try:
            value, length = json.JSONDecoder().raw_decode(raw[brace:])
            return value, start + brace + length
        except (ValueError, RecursionError):  # degenerate text may open thousands of braces
            pass
    plain = raw.strip().strip("`").strip()
    return (plain or {}), start + len(raw.rstrip())


def arguments_of(text: str) -> Any:
    """The value of an input that stands alone."""
    return _arguments(text, 0, len(text))[0]


def rendered(name: str, arguments: str) -> str:
    """A call as prompts ask for it."""
    return f"Action: {name}\nAction Input: {arguments}"


def same_calls(found: Sequence[Call], gold: Sequence[Call]) -> bool:
    """Whether the calls are equal, in number, order, names and arguments."""
    return same_names(found, gold) and all(_same(a.arguments, b.arguments) for a, b in zip(found, gold, strict=True))


def same_names(found: Sequence[Call], gold: Sequence[Call]) -> bool:
    """Whether the same tools are called in the same order."""
    return [call.name for call in found] == [call.name for call in gold]


def argument_share(found: Sequence[Call], gold: Sequence[Call]) -> float:
    """Share of right arguments, averaged over calls by position; extra arguments and extra calls count as wrong."""
    shares = [_right_share(a, b) for a, b in zip(found, gold, strict=False)]
    return sum(shares) / max(len(found), len(gold), 1)


def _right_share(found: Call, gold: Call) -> float:
    if not isinstance(found.arguments, dict) or not isinstance(gold.arguments, dict):
        return float(_same(found.arguments, gold.arguments))
    mine, theirs = _given(found.arguments), _given(gold.arguments)
    names = mine.keys() | theirs.keys()
    if not names:
        return 1.0
    right = [name for name in mine.keys() & theirs.keys() if _same(mine[name], theirs[name])]
    return len(right) / len(names)


def _given(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value is not None and value != ""}


def _same(a: Any, b: Any) -> bool:
    """Equality of JSON values: 1 and 1.0 are one number, true is none, and "1" is a text."""
    if isinstance(a, dict) and isinstance(b, dict):
        mine, theirs = _given(a), _given(b)
        return mine.keys() == theirs.keys() and all(_same(mine[name], theirs[name]) for name in mine)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(_same(*pair) for pair in zip(a, b, strict=True))
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, str) and isinstance(b, str):
        return a.split() == b.split()
    return bool(a == b)
