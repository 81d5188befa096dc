"""Induced instructions: what the base model says of a kind of task after it was shown some solved examples.

The training examples are dealt, by a generator seeded with `task.seed`, into disjoint sets of demonstrations; of each
set one instruction is asked for, in the model's own chat template. It must be general: one that repeats a solution that
was shown, or names something that only a solution has, is asked for again, then its set goes without. An example's
auxiliary contexts get instructions of different sets, never of one that it, or a copy of its question, is part of.
"""

import random
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from unisd.config.task import Contexts
from unisd.contexts.neighbours import question_key
from unisd.contexts.writer import Request, Writer
from unisd.failures import StageError
from unisd.files import Json
from unisd.tasks.types import Example, Message

ATTEMPTS = 3
MOST_SETS = 100
CHUNK = 20
"""Sets asked for together: their prompts are long."""
_SENTENCES = 4
_FEWEST_WORDS = 6
_NGRAM = 5
_SHOWN = "Here are solved tasks of one kind."
_WANTED = (
    "Write one general instruction, of three to four sentences, that would help to solve other tasks of this kind. "
    "Speak to the reader. Do not mention these tasks or their answers, and write no code."
)
# What only a solution has: names in code or in tool calls, and numbers.
_TELLING = re.compile(r"\b(?:\w*_\w+|[a-z]+[A-Z]\w*|\d{2,})\b")


def demonstration_sets(examples: Sequence[Example], size: int, seed: int) -> list[list[Example]]:
    """Disjoint sets of `size` examples, at most 100 of them; a function of the ids and the seed."""
    order = sorted(examples, key=lambda example: example.id)
    random.Random(f"{seed}/induction").shuffle(order)
    count = min(MOST_SETS, len(order) // size)
    return [order[index * size : (index + 1) * size] for index in range(count)]


def check_sets(examples: Sequence[Example], contexts: Contexts) -> None:
    """Raises ValueError if there are too few examples for as many instructions as each is to be given."""
    sets = min(MOST_SETS, len(examples) // contexts.demonstrations_per_context)
    if sets <= contexts.count:
        raise ValueError(
            f"spec.contexts: {contexts.count} induced instructions for each example need at least "
            f"{contexts.count + 1} disjoint sets of {contexts.demonstrations_per_context} examples, but "
            f"{len(examples)} examples make {sets}: "
            "lower contexts.count or contexts.demonstrationsPerContext, or raise task.maxTrainExamples"
        )


def instructions(
    examples: Sequence[Example], contexts: Contexts, seed: int, *, writer: Writer, progress: Callable[[int], None]
) -> list[Json]:
    """An instruction for every set that yields a valid one: examples (ids), questions (keys), instruction, attempts.

    `progress` is told how many sets are done.
    """
    sets = demonstration_sets(examples, contexts.demonstrations_per_context, seed)
    cap = contexts.max_generated_tokens
    found: list[Json] = []
    for start in range(0, len(sets), CHUNK):
        chunk = sets[start : start + CHUNK]
        inputs = [cap, seed, ATTEMPTS, [[[e.id, e.messages, e.demonstration] for e in shown] for shown in chunk]]
        found += writer.kept("instructions", inputs, partial(written, chunk, writer, max_tokens=cap, seed=seed))
        progress(min(start + CHUNK, len(sets)))
    return found


def written(sets: Sequence[Sequence[Example]], writer: Writer, *, max_tokens: int, seed: int) -> list[Json]:
    """The instructions of some sets, those that came out valid, in order."""
    found: dict[int, Json] = {}
    for attempt in range(1, ATTEMPTS + 1):
        open_sets = [index for index in range(len(sets)) if index not in found]
        if not open_sets:
            break
        requests = [Request([_request(sets[index])]) for index in open_sets]
        texts = writer.texts(requests, max_tokens, seed * 101 + attempt)
        for index, text in zip(open_sets, texts, strict=True):
            instruction = valid_instruction(text, sets[index])
            if instruction is not None:
                found[index] = {
                    "examples": [example.id for example in sets[index]],
                    "questions": [question_key(example) for example in sets[index]],
                    "instruction": instruction,
                    "attempts": attempt,
                }
    return [found[index] for index in sorted(found)]


def _request(shown: Sequence[Example]) -> Message:
    blocks = [
        f"Task {number}:\n{example.messages[-1]['content']}\n\nSolution {number}:\n{example.demonstration}"
        for number, example in enumerate(shown, start=1)
    ]
    return Message(role="user", content="\n\n".join([_SHOWN, *blocks, _WANTED]))


def valid_instruction(text: str, shown: Sequence[Example]) -> str | None:
    """The instruction that a text holds, at most four sentences; None if it is none, or tells a solution."""
    if "```" in text or "####" in text:
        return None
    plain = re.sub(r"^[\s*_#]*(?:general\s+)?instructions?[\s*_]*:[\s*_]*", "", text, flags=re.IGNORECASE)
    plain = " ".join(plain.split())
    sentences = re.findall(r"[^.!?]+[.!?]+(?:\s|$)", plain)[:_SENTENCES]
    instruction = "".join(sentences).strip()
    if len(instruction.split()) < _FEWEST_WORDS or any(tells(instruction, example) for example in shown):
        return None
    return instruction


def tells(instruction: str, example: Example) -> bool:
    """Whether an instruction gives away an example's solution: five words in a row, or a name or number of it."""
    if set(_TELLING.findall(instruction)) & set(_TELLING.findall(example.demonstration)):
        return True
    if _ngrams(instruction) & _ngrams(example.demonstration):
        return True
    return any(len(text.split()) > 1 and _words(text) in _words(instruction) for text in _answers(example))


def _answers(example: Example) -> list[str]:
    """The text of the right option, where there are options."""
    if not example.choices or example.answer is None:
        return []
    return [example.choices[ord(example.answer) - ord("A")]]


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def _ngrams(text: str) -> set[tuple[str, ...]]:
    words = _words(text).split()
    return {tuple(words[start : start + _NGRAM]) for start in range(len(words) - _NGRAM + 1)}


def assigned(
    examples: Sequence[Example], found: Sequence[Mapping[str, Sequence[str]]], count: int, seed: int
) -> dict[str, list[str]]:
    """For every example `count` instructions of different sets, none of which it or a copy of it is part of.

    Raises:
        StageError: BadInput, if there are not enough.
    """
    chosen = {}
    for example in examples:
        key = question_key(example)
        others = [str(row["instruction"]) for row in found if key not in row["questions"]]
        if len(others) < count:
            raise StageError(
                "BadInput",
                f"spec.contexts.count: {count} induced instructions are wanted for each example, but only "
                f"{len(others)} of {len(found)} valid ones can be shown to {example.id!r}; lower it or "
                "demonstrationsPerContext, use a stronger model, or raise task.maxTrainExamples",
            )
        chosen[example.id] = random.Random(f"{seed}/{example.id}/induction").sample(others, count)
    return chosen
