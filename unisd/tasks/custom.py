"""The user's own rows, in TRL's prompt–completion format, plain or conversational (docs/tasks/custom.md)."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from unisd.config.choices import Grading
from unisd.config.task import Task as TaskConfig
from unisd.tasks import code, multiple_choice
from unisd.tasks.rows import RawRow, check_unique, load_rows, sampled, stable_fraction
from unisd.tasks.types import Example, Grade, Message, NegativeRequest, Split

_METRICS: dict[Grading, str] = {
    "none": "none",
    "exact": "accuracy",
    "regex": "accuracy",
    "multipleChoice": "accuracy",
    "python": "pass@1",
}
_ROLES = ("system", "user", "assistant")


class Custom:
    """Rows with prompt and completion; id, negative, answer, choices and tests where the grading wants them."""

    name = "custom"
    hub = None

    def __init__(self, config: TaskConfig) -> None:
        self._config = config
        self._grading: Grading = config.grading or "none"
        self.metric = _METRICS[self._grading]
        self.instructions = multiple_choice.INSTRUCTIONS if self._grading == "multipleChoice" else ()
        self._pattern = re.compile(config.pattern, re.MULTILINE) if config.pattern is not None else None

    def examples(self, split: Split) -> list[Example]:
        rows = load_rows(self._config.source, None, split, self._config.seed)
        seen: Counter[str] = Counter()
        examples = [self._example(row, _identity(row, seen)) for row in rows]
        check_unique([(example.id, row.where) for example, row in zip(examples, rows, strict=True)])
        return sampled(examples, self._config, split)

    def grade(self, examples: Sequence[Example], completions: Sequence[str]) -> list[Grade]:
        if self._grading == "python":
            return code.grade(examples, completions)
        return [self._grade(*pair) for pair in zip(examples, completions, strict=True)]

    def negative_request(self, example: Example) -> NegativeRequest | None:
        if self._grading == "python":
            return code.negative_request(example, self._config.seed)
        if self._grading == "multipleChoice":
            return multiple_choice.negative_request(example, self._config.seed)
        return None

    def negative_demonstrations(
        self, asked: Sequence[tuple[Example, NegativeRequest]], generated: Sequence[str]
    ) -> list[str | None]:
        if self._grading == "python":
            return code.negative_demonstrations(asked, generated)
        return multiple_choice.negative_demonstrations([request for _, request in asked], generated)

    def _example(self, row: RawRow, identity: str) -> Example:
        messages = _messages(row)
        completion = _completion(row)
        if self._grading == "multipleChoice":
            return self._choice_example(row, identity, messages, completion)
        tests = _tests(row) if self._grading == "python" else ()
        return Example(
            id=identity,
            messages=messages,
            demonstration=completion,
            query=messages[-1]["content"],
            answer=self._gold(row, completion),
            tests=tests,
            negative=_negative(row),
        )

    def _choice_example(self, row: RawRow, identity: str, messages: tuple[Message, ...], completion: str) -> Example:
        choices = _texts(row, "choices", least=2)
        if len(choices) > len(multiple_choice.LETTERS):
            raise ValueError(
                f"{row.where}: at most {len(multiple_choice.LETTERS)} choices have letters, got {len(choices)}"
            )
        question = multiple_choice.Question(
            id=identity,
            text=messages[-1]["content"],
            choices=choices,
            correct=_correct(row, choices),
            explanation=completion,
            negative=_negative(row),
        )
        example = multiple_choice.example_of(question, self._config.seed)
        return Example(**{**vars(example), "messages": (*messages[:-1], *example.messages)})

    def _gold(self, row: RawRow, completion: str) -> str | None:
        if self._grading == "none":
            return None
        if self._grading == "python":
            return code.extract(completion)
        if row.values.get("answer") is not None:
            return _answer(row)
        if self._grading == "exact":
            return completion.strip()
        found = self._found(completion)
        if found is None:
            raise ValueError(
                f"{row.where}: has no field 'answer', and spec.task.pattern finds none in its completion {completion!r}"
            )
        return found

    def _found(self, text: str) -> str | None:
        assert self._pattern is not None, "validated: grading regex has a pattern"
        matches = [found.strip() for match in self._pattern.finditer(text) if (found := match.group(1)) is not None]
        return matches[-1] if matches else None

    def _grade(self, example: Example, completion: str) -> Grade:
        if self._grading == "none":
            return Grade(correct=False, found=False, answer=None)
        if self._grading == "multipleChoice":
            return multiple_choice.grade(example, completion)
        answer = completion.strip() if self._grading == "exact" else self._found(completion)
        if not answer:
            return Grade(correct=False, found=False, answer=None)
        return Grade(correct=_same(answer, example.answer or ""), found=True, answer=answer)


def _same(answer: str, gold: str) -> bool:
    """Equal as text, or as numbers: 1,000 and 1000.0 are one answer."""
    if answer == gold:
        return True
    try:
        return abs(float(answer.replace(",", "")) - float(gold.replace(",", ""))) < 1e-4
    except ValueError:
        return False


def _identity(row: RawRow, seen: "Counter[str]") -> str:
    """The row's id, or one made of its content; copies of a row without id are numbered."""
    given = row.values.get("id")
    if given not in (None, ""):
        return str(given)
    content = f"{stable_fraction(json.dumps(row.values, sort_keys=True), 0):.16f}"[2:]
    seen[content] += 1
    return content if seen[content] == 1 else f"{content}-{seen[content]}"


def _texts(row: RawRow, name: str, least: int) -> tuple[str, ...]:
    """A field that is a list of texts. Raises ValueError if it holds fewer than `least`, or anything else."""
    values = row.field(name, list)
    if len(values) < least or not all(isinstance(value, str) and value.strip() for value in values):
        raise ValueError(f"{row.where}: field {name!r} should hold at least {least} texts, got {values!r}")
    return tuple(values)


def _tests(row: RawRow) -> tuple[str, ...]:
    tests = _texts(row, "tests", least=1)
    code.parsed("\n".join(tests), f"{row.where}: field 'tests' is no Python")
    return tests


def _answer(row: RawRow) -> str:
    answer = str(row.field("answer", (str, int, float))).strip()
    if not answer:
        raise ValueError(f"{row.where}: field 'answer' is empty; leave it out to have that of the completion")
    return answer


def _negative(row: RawRow) -> str | None:
    negative = row.values.get("negative")
    if negative is not None and not (isinstance(negative, str) and negative.strip()):
        raise ValueError(f"{row.where}: field 'negative' should be a wrong completion as text, got {negative!r}")
    return negative


def _messages(row: RawRow) -> tuple[Message, ...]:
    prompt = row.field("prompt", (str, list))
    if isinstance(prompt, str):
        if not prompt.strip():
            raise ValueError(f"{row.where}: field 'prompt' is empty")
        return (Message(role="user", content=prompt),)
    messages = tuple(_message(row, entry) for entry in prompt)
    if not messages or messages[-1]["role"] != "user":
        raise ValueError(f"{row.where}: field 'prompt' should end with a user message, got {prompt!r}")
    return messages


def _message(row: RawRow, entry: Any) -> Message:
    if not isinstance(entry, dict) or entry.get("role") not in _ROLES or not isinstance(entry.get("content"), str):
        raise ValueError(
            f"{row.where}: a message needs a role of {', '.join(_ROLES)} and a text content, got {entry!r}"
        )
    return Message(role=entry["role"], content=entry["content"])


def _completion(row: RawRow) -> str:
    completion = row.field("completion", (str, list))
    if isinstance(completion, list):
        messages = [_message(row, entry) for entry in completion]
        if len(messages) != 1 or messages[0]["role"] != "assistant":
            raise ValueError(f"{row.where}: field 'completion' should be one assistant message, got {completion!r}")
        completion = messages[0]["content"]
    if not completion.strip():
        raise ValueError(f"{row.where}: field 'completion' is empty; it is the demonstration that teachers are shown")
    return str(completion)


def _correct(row: RawRow, choices: tuple[str, ...]) -> int:
    """Index of the right option, named by letter or by text."""
    answer = str(row.field("answer", (str, int)))
    if answer in choices:
        return choices.index(answer)
    letters = multiple_choice.LETTERS[: len(choices)]
    if len(answer) == 1 and answer.upper() in letters:
        return letters.index(answer.upper())
    raise ValueError(f"{row.where}: field 'answer' is {answer!r}, which is none of the choices {list(choices)}")
