"""Wrong demonstrations for the contrastive term: the rows' own, or written by the base model around a mistake.

What is wrong, and everything around the written text, is the task's template, so that a weak model too yields a valid
one; the task checks what was written (a program is executed, a tool call compared). A text that will not do is asked
for again with another seed, then the example goes without: it leaves the contrastive term only, and is counted.
"""

from collections.abc import Callable, Sequence
from functools import partial

from unisd.config.task import Contexts
from unisd.contexts.writer import CHUNK, Request, Writer
from unisd.failures import StageError
from unisd.files import Json
from unisd.tasks.types import Example, Task

ATTEMPTS = 3


def negatives(
    examples: Sequence[Example],
    task: Task,
    contexts: Contexts,
    seed: int,
    *,
    writer: Writer,
    progress: Callable[[int], None],
) -> list[Json]:
    """Wrong demonstrations of the examples that can have one: id, answer, demonstration, attempts.

    `progress` is told how many examples are done.

    Raises:
        StageError: BadInput, if more examples than `contexts.maxMissingNegatives` allows are left without.
    """
    cap = contexts.max_generated_tokens
    found: list[Json] = []
    for start in range(0, len(examples), CHUNK):
        chunk = examples[start : start + CHUNK]
        inputs = [cap, seed, ATTEMPTS, [_inputs(task, example) for example in chunk]]
        found += writer.kept("negatives", inputs, partial(written, chunk, task, writer, max_tokens=cap, seed=seed))
        progress(min(start + CHUNK, len(examples)))
    _check_missing(contexts, {row["id"] for row in found}, examples)
    return found


def _check_missing(contexts: Contexts, found: set[str], examples: Sequence[Example]) -> None:
    missing = [example.id for example in examples if example.id not in found]
    if len(missing) > contexts.max_missing_negatives * len(examples):
        raise StageError(
            "BadInput",
            f"spec.contexts.maxMissingNegatives: {len(missing)} of {len(examples)} examples have no valid wrong "
            f"demonstration after {ATTEMPTS} attempts, more than the allowed share of "
            f"{contexts.max_missing_negatives}; first {missing[0]!r}. Raise it, use a stronger model, or give rows "
            "with a field 'negative'",
        )


def _inputs(task: Task, example: Example) -> list[object]:
    """Everything that an example's negative depends on beside the model."""
    request = task.negative_request(example)
    asked = None if request is None else [request.messages, request.prefix, request.answer, request.schema]
    return [example.id, example.demonstration, example.negative, example.tests, example.setup, asked]


def written(examples: Sequence[Example], task: Task, writer: Writer, *, max_tokens: int, seed: int) -> list[Json]:
    """Negatives of some examples, those that were given and those that could be written, in order."""
    found: dict[str, Json] = {
        example.id: {"id": example.id, "answer": None, "demonstration": example.negative, "attempts": 0}
        for example in examples
        if example.negative is not None
    }
    asked = [(e, request) for e in examples if e.id not in found and (request := task.negative_request(e))]
    for attempt in range(1, ATTEMPTS + 1):
        asked = [(example, request) for example, request in asked if example.id not in found]
        if not asked:
            break
        requests = [Request(request.messages, request.prefix) for _, request in asked]
        texts = writer.texts(requests, max_tokens, seed * 101 + attempt, schema=asked[0][1].schema)
        wrong = task.negative_demonstrations(asked, texts)
        for (example, request), demonstration in zip(asked, wrong, strict=True):
            if demonstration is not None and demonstration != example.demonstration:
                found[example.id] = {
                    "id": example.id,
                    "answer": request.answer,
                    "demonstration": demonstration,
                    "attempts": attempt,
                }
    return [found[example.id] for example in examples if example.id in found]
