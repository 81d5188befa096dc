"""Answers as JSON under a schema, for servers that constrain decoding: what to ask for, and how it reads as text.

Every kind of task has its own form; what comes back is rendered in the task's own words, so that one grader judges both
forms. Off unless asked for: training and the stages of a run use the tasks' text forms, which are what was trained.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from unisd.config.task import TaskName
from unisd.files import Json
from unisd.tasks import code, multiple_choice, react
from unisd.tasks.types import Example, Message

_REASONING = 600
"""Characters of three short sentences: without a bound, a weak model's decoding might never come to the answer."""


@dataclass(frozen=True)
class Form:
    """The JSON form of a kind of task."""

    instruction: str
    schema: Callable[[Example], Json]
    """JSON Schema of an answer to one example."""
    text: Callable[[Any], str]
    """What a valid answer reads like in the task's own form."""


def _object(**properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _choice_schema(example: Example) -> Json:
    letters = list(multiple_choice.LETTERS[: len(example.choices)])
    return _object(reasoning={"type": "string", "maxLength": _REASONING}, answer={"type": "string", "enum": letters})


def _calls_schema(_example: Example) -> Json:
    call = _object(Thought={"type": "string"}, Action={"type": "string"}, Action_Input={"type": "object"})
    return _object(tool_calls={"type": "array", "items": call})


def _calls_text(answer: Any) -> str:
    calls = answer["tool_calls"]
    return "\n".join(react.rendered(str(call["Action"]), json.dumps(call["Action_Input"])) for call in calls)


_CHOICE = Form(
    'Answer with one JSON object: {"reasoning": at most three short sentences, "answer": one letter}.',
    _choice_schema,
    lambda answer: multiple_choice.demonstration(str(answer["reasoning"]), str(answer["answer"])),
)
_CODE = Form(
    'Answer with one JSON object: {"code": the whole program}.',
    lambda _example: _object(code={"type": "string"}),
    lambda answer: code.fenced(str(answer["code"])),
)
_CALLS = Form(
    'Answer with one JSON object: {"tool_calls": [{"Thought": text, "Action": name of a tool, "Action_Input": its '
    "arguments as an object}]}.",
    _calls_schema,
    _calls_text,
)
FORMS: dict[TaskName, Form] = {
    "scienceqa": _CHOICE,
    "cos_e": _CHOICE,
    "medmcqa": _CHOICE,
    "gpqa": _CHOICE,
    "mbpp": _CODE,
    "humaneval": _CODE,
    "toolalpaca": _CALLS,
}


def asked(example: Example, form: Form) -> Example:
    """The example with its prompt asking for JSON in place of the task's own form."""
    *before, last = example.messages
    content = last["content"].removesuffix(multiple_choice.INSTRUCTION).rstrip()
    return replace(example, messages=(*before, Message(role="user", content=f"{content}\n\n{form.instruction}")))


def read(text: str, form: Form) -> str:
    """A completion in the task's own form; empty, hence graded as without an answer, if it is no JSON of the schema."""
    begin = text.find("{")
    try:
        # Not strict: servers' grammars let control characters stand in texts, as a line break in a program.
        answer, _ = json.JSONDecoder(strict=False).raw_decode(text[max(begin, 0) :])
        return form.text(answer)
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
