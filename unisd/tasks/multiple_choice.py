"""Questions with lettered options: one template for prompts and for demonstrations right or wrong, and the extraction
of answers. Shared by every task of the kind; reads no files.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from unisd.tasks.rows import stable_fraction
from unisd.tasks.types import Example, Grade, Message, NegativeRequest

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
INSTRUCTION = (
    'Reason briefly, in at most three short sentences, on one line that starts with "Reasoning:". '
    'Then end with one line that starts with "Answer:" and holds one letter.'
)
INSTRUCTIONS: tuple[str, ...] = (INSTRUCTION,)
_SENTENCES = 3


@dataclass(frozen=True)
class Question:
    """A question with options and its answer, before options are shuffled."""

    id: str
    text: str
    choices: tuple[str, ...]
    correct: int
    """Index of the right option."""
    explanation: str = ""
    context: str = ""
    """A passage that belongs to the question."""
    negative: str | None = None
    """A wrong demonstration that came with the row."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """What the question is about, e.g. its subject."""


def example_of(question: Question, seed: int) -> Example:
    """The example, its options in an order that depends on id and seed alone."""
    order = sorted(range(len(question.choices)), key=lambda i: (stable_fraction(f"{question.id}/{i}", seed), i))
    choices = tuple(question.choices[index] for index in order)
    letter = LETTERS[order.index(question.correct)]
    return Example(
        id=question.id,
        messages=(Message(role="user", content=_prompt(question, choices)),),
        demonstration=demonstration(question.explanation, letter),
        query=question.text,
        answer=letter,
        choices=choices,
        negative=question.negative,
        groups=question.groups,
    )


def _prompt(question: Question, choices: Sequence[str]) -> str:
    options = "\n".join(f"{LETTERS[index]}) {choice}" for index, choice in enumerate(choices))
    context = f"Context: {question.context}\n" if question.context else ""
    return f"{context}Question: {question.text}\nOptions:\n{options}\n\n{INSTRUCTION}"


def demonstration(explanation: str, letter: str) -> str:
    """A response in the form that the prompt asks for."""
    explanation = " ".join(explanation.split())
    return f"Reasoning: {explanation}\nAnswer: {letter}" if explanation else f"Answer: {letter}"


_ANSWER_LINE = re.compile(
    r"^[\s>*_#`-]*(?:(?:the|my)\s+)?(?:(?:final|correct|right)\s+)?answer[\s*_`]*[:=\uff1a\u2013\u2014-][\s*_]*(.*)$",
    re.IGNORECASE,
)
_OPENING, _CLOSING = r"\s*_`\"'(\[{$\u201c\u2018\uff08", r"\s*_`\"')\]}$\\\u201d\u2019\uff09.,:;!\u3002-"
# What may stand before a letter: quotes, brackets, marks of emphasis, commands of LaTeX, and what it is called.
_BEFORE = rf"(?:[{_OPENING}]|\\[a-z]+(?=\{{)|\\(?=\()|(?:option|choice)\b)*"
_LETTER = re.compile(rf"^{_BEFORE}([A-Z])(?:[{_CLOSING}]|$)", re.IGNORECASE)
_ALONE = re.compile(rf"{_BEFORE}([A-Z])[{_CLOSING}]*", re.IGNORECASE)
# Several letters in a row name no option: "B and C", "A, B or D".
_SEVERAL = re.compile(r"^\W*[A-Z](?:\W*(?:,|/|&|;|\band\b|\bor\b)\W*[A-Z])+\W*$", re.IGNORECASE)
_PHRASE = re.compile(
    rf"\banswer\s+is\s*:?{_BEFORE}([A-Z])\b(?!['\u2019])(?:[*_`\"')\]}}$\\.,:;!\u3002]|\s*$|\s*\n)", re.IGNORECASE
)


def extract(completion: str, choices: Sequence[str]) -> str | None:
    """The letter of a completion's answer, or None.

    The last well-formed answer line wins, in upper or lower case; an answer line may hold an option's text instead of
    its letter, and where it holds nothing, the line after it is meant. Without such a line, the last "the answer is X"
    counts, or a letter that is the whole completion. A bare article is never an option.
    """
    letters = LETTERS[: len(choices)]
    lines = [line for line in completion.splitlines() if line.strip()]
    for line, after in reversed([*pairwise([*lines, ""])]):
        found = _ANSWER_LINE.match(line)
        if found and (letter := _letter_in(found.group(1) or after, letters, choices)):
            return letter
    named = [match.group(1).upper() for match in _PHRASE.finditer(completion)]
    if alone := _ALONE.fullmatch(completion):
        named.append(alone.group(1).upper())
    return next((letter for letter in reversed(named) if letter in letters), None)


def _letter_in(text: str, letters: str, choices: Sequence[str]) -> str | None:
    """The option that an answer line names: as text, or as a letter that is not the article of a sentence.

    A letter alone is the option's letter, also where it is the text of another one.
    """
    plain = _bare(text)
    if len(plain) == 1 and plain.upper() in letters:
        return plain.upper()
    matching = [index for index, choice in enumerate(choices) if _bare(choice) == plain]
    if len({choices[index] for index in matching}) == 1:
        return letters[matching[0]]
    found = None if _SEVERAL.match(text) else _LETTER.match(text)
    if not found or found.group(1).upper() not in letters:
        return None
    rest = text[found.end(1) :].strip("*_`\"' ")
    if found.group(1) in "aAI" and rest and rest[0].isalpha():
        return None
    return found.group(1).upper()


def _bare(text: str) -> str:
    """A text without what may stand around it, in lower case."""
    return text.strip().strip("*_`\"'.").lower()


def grade(example: Example, completion: str) -> Grade:
    """The verdict on one completion; an option with the right option's text is right."""
    letter = extract(completion, example.choices)
    if letter is None:
        return Grade(correct=False, found=False, answer=None)
    assert example.answer is not None
    same = example.choices[LETTERS.index(letter)] == example.choices[LETTERS.index(example.answer)]
    return Grade(correct=letter == example.answer or same, found=True, answer=letter)


def negative_request(example: Example, seed: int) -> NegativeRequest | None:
    """How to have an explanation written for a wrong option, which a stable hash assigns."""
    assert example.answer is not None
    right = example.choices[LETTERS.index(example.answer)]
    wrong = [index for index, choice in enumerate(example.choices) if choice != right]
    if not wrong:
        return None
    index = wrong[int(stable_fraction(f"{example.id}/negative", seed) * len(wrong))]
    request = (
        f"{example.messages[-1]['content'].removesuffix(INSTRUCTION).rstrip()}\n\n"
        f"Explain in one or two short sentences why {LETTERS[index]}) {example.choices[index]} is the answer."
    )
    return NegativeRequest(
        messages=(*example.messages[:-1], Message(role="user", content=request)),
        prefix=f"The answer is {LETTERS[index]}) {example.choices[index]}, because",
        answer=LETTERS[index],
        frame=demonstration("it is so", LETTERS[index]),
    )


def negative_demonstrations(requests: Sequence[NegativeRequest], generated: Sequence[str]) -> list[str | None]:
    """Wrong demonstrations in the template of right ones; None where a text will not do."""
    return [_negative(*pair) for pair in zip(requests, generated, strict=True)]


def _negative(request: NegativeRequest, generated: str) -> str | None:
    """The wrong demonstration in the template of right ones, or None if the text will not do."""
    lines = [line.strip() for line in generated.splitlines() if line.strip()]
    if not lines:
        return None
    sentences = re.findall(r"[^.!?]+[.!?]", lines[0])[:_SENTENCES]
    explanation = "".join(sentences).strip() or lines[0]
    if len(explanation.split()) < 2 or _ANSWER_LINE.match(explanation) or "reasoning:" in explanation.lower():
        return None
    return demonstration(explanation[0].upper() + explanation[1:], request.answer)
