"""GSM8K: grade-school mathematics in words, with worked solutions (arXiv 2110.14168)."""

import re
from collections.abc import Sequence

from unisd.config.task import Task as TaskConfig
from unisd.tasks.rows import RawRow, content_ids, load_rows, sampled, stable_fraction
from unisd.tasks.types import Example, Grade, HubDataset, Message, NegativeRequest, Split

HUB = HubDataset(
    "openai/gsm8k", "test", revision="cc7b047b6e5bb11b4f1af84efc572db110a51b3c", config="main", licence="MIT"
)
INSTRUCTION = 'Solve it step by step. Then end with one line that holds "####", a space, and the number alone.'
_TOLERANCE = 1e-4
_CALCULATOR = re.compile(r"<<[^<>]*>>")
_NUMBER = r"[-\u2212]?[$€£]?[-\u2212]?(?:\d+/[1-9]\d*|(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)"
_BOXED = r"\\boxed\{\s*"
_MARKED = re.compile(rf"####[\s*_:$]*(?:{_BOXED})?({_NUMBER})")
_PHRASE = re.compile(rf"(?:\banswer\s*(?:is\b|:|=)[\s*_:$]*(?:{_BOXED})?|{_BOXED})({_NUMBER})", re.IGNORECASE)
_ANY = re.compile(rf"(?<!\d)({_NUMBER})")


class Gsm8k:
    """Rows with question and answer, whose last line is `#### N`."""

    name = "gsm8k"
    hub = HUB
    metric = "accuracy"
    instructions: tuple[str, ...] = (INSTRUCTION,)

    def __init__(self, config: TaskConfig) -> None:
        self._config = config

    def examples(self, split: Split) -> list[Example]:
        rows = load_rows(self._config.source, HUB, split, self._config.seed)
        examples = [_example(*pair) for pair in zip(rows, content_ids(rows, "question"), strict=True)]
        return sampled(examples, self._config, split)

    def grade(self, examples: Sequence[Example], completions: Sequence[str]) -> list[Grade]:
        return [_grade(*pair) for pair in zip(examples, completions, strict=True)]

    def negative_request(self, example: Example) -> NegativeRequest | None:
        """Has a solution written that ends in a wrong number, which a stable hash assigns."""
        assert example.answer is not None
        wrong = _wrong(example, self._config.seed)
        question = example.messages[-1]["content"].removesuffix(INSTRUCTION).rstrip()
        content = f"{question}\n\nExplain in two to four short sentences why the answer is {wrong}."
        return NegativeRequest(
            messages=(Message(role="user", content=content),),
            prefix=f"The answer is {wrong}, because",
            answer=wrong,
            frame=f"Because so it is.\n#### {wrong}",
        )

    def negative_demonstrations(
        self, asked: Sequence[tuple[Example, NegativeRequest]], generated: Sequence[str]
    ) -> list[str | None]:
        return [_negative(request, text) for (_, request), text in zip(asked, generated, strict=True)]


def _example(row: RawRow, identity: str) -> Example:
    question, answer = row.text("question"), row.text("answer")
    gold = _MARKED.findall(answer)
    if not gold:
        raise ValueError(f"{row.where}: field 'answer' has no last line '#### N': {answer[-80:]!r}")
    reasoning = _CALCULATOR.sub("", answer.rpartition("####")[0]).strip()
    number = _plain(gold[-1])
    return Example(
        id=identity,
        messages=(Message(role="user", content=f"{question}\n\n{INSTRUCTION}"),),
        demonstration=f"{reasoning}\n#### {number}".strip(),
        query=question,
        answer=number,
    )


def extract(completion: str) -> str | None:
    """The number of a completion's answer: after the last ####, else the last that is boxed or said to be the answer,
    else the last one."""
    text = _CALCULATOR.sub("", completion)
    for pattern in (_MARKED, _PHRASE, _ANY):
        found = pattern.findall(text)
        if found:
            return _plain(found[-1])
    return None


def _plain(number: str) -> str:
    return re.sub(r"[,$€£]", "", number).replace("\u2212", "-")


def _value(number: str) -> float:
    whole, _, parts = number.partition("/")
    return float(whole) / float(parts or 1)


def _grade(example: Example, completion: str) -> Grade:
    assert example.answer is not None
    found = extract(completion)
    if found is None:
        return Grade(correct=False, found=False, answer=None)
    return Grade(correct=abs(_value(found) - _value(example.answer)) < _TOLERANCE, found=True, answer=found)


def _wrong(example: Example, seed: int) -> str:
    """A number near the gold one that is not it."""
    assert example.answer is not None
    gold = _value(example.answer)
    whole = round(gold)
    candidates = [whole + 1, whole - 1, whole + 10, 2 * whole, whole // 2, whole - 10]
    wrong = [number for number in candidates if abs(number - gold) >= 1 and (number >= 0 or whole < 0)]
    return str(wrong[int(stable_fraction(f"{example.id}/negative", seed) * len(wrong))])


def _negative(request: NegativeRequest, generated: str) -> str | None:
    """The wrong solution in the form of right ones, or None if the text will not do."""
    reasoning = generated.partition("####")[0].strip()
    if len(reasoning.split()) < 2 or INSTRUCTION[:20] in reasoning:
        return None
    return f"{reasoning[0].upper()}{reasoning[1:]}\n#### {request.answer}"
