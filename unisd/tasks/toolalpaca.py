"""ToolAlpaca: requests to be met by calls of documented tools (arXiv 2306.05301), in ReAct text everywhere.

Prompts are the data set's own: documentation of the tools, the format, the request; training and evaluation share them.
"""

import json
import logging
import re
from collections.abc import Sequence
from typing import Any

from unisd.config.task import Task as TaskConfig
from unisd.tasks import react
from unisd.tasks.react import Call
from unisd.tasks.rows import RawRow, content_ids, load_rows, sampled, stable_fraction
from unisd.tasks.types import Example, Grade, HubDataset, Message, NegativeRequest, Split

logger = logging.getLogger(__name__)

HUB = HubDataset("Ahren09/ToolAlpaca", "test", licence="Apache 2.0")
_FORMAT = (
    "Use the following format: Thought: you should always think about what to do",
    "Action: the action to take, should be one of the tool names.",
    "Action Input: the input to the action, must be in JSON format. All of the action input must be realistic and from "
    "the user.",
)
_OPTIONAL = "[Optional]"
_TOOL = re.compile(r"^(\w+):.*\nParameters:", re.MULTILINE)


class ToolAlpaca:
    """Rows with prompt, instruction, golden_answer (calls) and, for training, golden_response (ReAct text)."""

    name = "toolalpaca"
    hub = HUB
    metric = "accuracy"
    instructions: tuple[str, ...] = _FORMAT

    def __init__(self, config: TaskConfig) -> None:
        self._config = config

    def examples(self, split: Split) -> list[Example]:
        rows = load_rows(self._config.source, HUB, split, self._config.seed)
        examples = [_example(*pair) for pair in zip(rows, content_ids(rows, "prompt"), strict=True)]
        return sampled(examples, self._config, split)

    def grade(self, examples: Sequence[Example], completions: Sequence[str]) -> list[Grade]:
        return [_grade(*pair) for pair in zip(examples, completions, strict=True)]

    def negative_request(self, example: Example) -> NegativeRequest | None:
        """Has one call of the reference written again: with another tool, or with wrong arguments."""
        return _request(example, self._config.seed)

    def negative_demonstrations(
        self, asked: Sequence[tuple[Example, NegativeRequest]], generated: Sequence[str]
    ) -> list[str | None]:
        seed = self._config.seed
        return [_negative(example, seed, text) for (example, _), text in zip(asked, generated, strict=True)]


def _example(row: RawRow, identity: str) -> Example:
    prompt = row.text("prompt")
    response = _response(row)
    gold = _gold(row) or [_plain(call) for call in react.calls_in(response)]
    if not gold:
        raise ValueError(f"{row.where}: neither 'golden_answer' nor 'golden_response' holds a tool call")
    if response and not any(react.same_calls(react.calls_in(response), calls) for calls in _accepted(gold)):
        logger.warning(
            "%s: 'golden_response' makes other calls than 'golden_answer', which is shown instead", row.where
        )
        response = ""
    return Example(
        id=identity,
        messages=(Message(role="user", content=prompt),),
        demonstration=response or "\n".join(react.rendered(name.removeprefix(_OPTIONAL), text) for name, text in gold),
        query=row.optional("instruction") or prompt,
        answer=json.dumps(gold),
        groups={"api": api} if (api := row.optional("name")) else {},
    )


def _response(row: RawRow) -> str:
    """The reference text, which is published as one text or as a list of its parts."""
    value = row.values.get("golden_response") or ""
    if not isinstance(value, str | list):
        raise ValueError(f"{row.where}: field 'golden_response' should be str or list, got {value!r}")
    return (value if isinstance(value, str) else "\n".join(str(part) for part in value)).strip()


def _gold(row: RawRow) -> list[tuple[str, str]]:
    """The reference calls as name and input, each input as it was published."""
    value = row.values.get("golden_answer") or []
    try:
        calls = json.loads(value) if isinstance(value, str) else value
        return [(_name(call), _text(call["Action_Input"])) for call in calls]
    except (TypeError, KeyError, ValueError):
        raise ValueError(
            f"{row.where}: field 'golden_answer' should be a list of objects with Action and Action_Input, "
            f"got {value!r}"
        ) from None


def _name(call: Any) -> str:
    name = str(call["Action"]).strip()
    if not react.tool_name(name.removeprefix(_OPTIONAL)):
        raise ValueError("a call needs the name of a tool")
    return name


def _text(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments)


def _plain(call: Call) -> tuple[str, str]:
    return call.name, _text(call.arguments)


def _accepted(gold: Sequence[Sequence[str]]) -> list[list[Call]]:
    """The calls that count as right: all of the reference, and those without the ones that it marks as optional."""
    whole = [
        Call(
            react.tool_name(name.removeprefix(_OPTIONAL)),
            react.arguments_of(arguments),
            optional=name.startswith(_OPTIONAL),
        )
        for name, arguments in gold
    ]
    required = [call for call in whole if not call.optional]
    return [whole] if len(required) in (0, len(whole)) else [whole, required]


def _accepted_of(example: Example) -> list[list[Call]]:
    return _accepted(json.loads(example.answer or "[]"))


def _grade(example: Example, completion: str) -> Grade:
    found, accepted = react.calls_in(completion), _accepted_of(example)
    nearest = max(accepted, key=lambda calls: (react.same_names(found, calls), react.argument_share(found, calls)))
    parts = {
        "name_accuracy": float(react.same_names(found, nearest)),
        "argument_accuracy": react.argument_share(found, nearest),
    }
    answer = json.dumps([_plain(call) for call in found]) if found else None
    return Grade(correct=react.same_calls(found, nearest), found=bool(found), answer=answer, parts=parts)


def _mistake(example: Example, seed: int) -> tuple[Call, str]:
    """Which call of the reference goes wrong, and the tool that is called in its place.

    Half of the mistakes are another tool, where there is one; the rest are wrong arguments of the right tool.
    """
    calls = react.calls_in(example.demonstration)
    chosen = calls[int(stable_fraction(f"{example.id}/call", seed) * len(calls))]
    others = sorted(set(_TOOL.findall(example.messages[-1]["content"])) - {chosen.name})
    draw = 2 * stable_fraction(f"{example.id}/tool", seed)
    return chosen, others[int(draw * len(others))] if others and draw < 1 else chosen.name


def _request(example: Example, seed: int) -> NegativeRequest:
    chosen, name = _mistake(example, seed)
    content = (
        f"{example.messages[-1]['content']}\n\nThis is a right response:\n{example.demonstration}\n\n"
        f"Write another call of the tool {name}, with other arguments that look plausible but do not meet the request."
    )
    return NegativeRequest(
        messages=(*example.messages[:-1], Message(role="user", content=content)),
        prefix=f"Action: {name}\nAction Input:",
        answer=name,
        frame=_replaced(example.demonstration, chosen, react.rendered(name, "{}")),
        schema=react.ARGUMENTS,
    )


def _negative(example: Example, seed: int, written: str) -> str | None:
    """The reference with one call replaced; None if what was written is no JSON object or the calls are the same."""
    arguments = react.arguments_of(written) if written.strip() else None
    if not isinstance(arguments, dict):
        return None
    chosen, name = _mistake(example, seed)
    wrong = _replaced(example.demonstration, chosen, react.rendered(name, json.dumps(arguments)))
    same = any(react.same_calls(react.calls_in(wrong), calls) for calls in _accepted_of(example))
    return None if same else wrong


def _replaced(text: str, call: Call, replacement: str) -> str:
    return text[: call.span[0]] + replacement + text[call.span[1] :]
