"""A task whose rows are questions with options: what all tasks of the kind share but for the fields of their rows.

Called by the modules of the single tasks, which say where rows are published and how a row reads as a question.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from unisd.config.task import Task as TaskConfig
from unisd.tasks import multiple_choice
from unisd.tasks.multiple_choice import Question
from unisd.tasks.rows import RawRow, check_unique, load_rows, sampled
from unisd.tasks.types import Example, Grade, HubDataset, NegativeRequest, Split

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ChoiceTask:
    """A `Task` of multiple choice."""

    config: TaskConfig
    hub: HubDataset
    """Where the rows are published."""
    questions_of: Callable[[Sequence[RawRow]], list[Question | None]]
    """The question of each row, None for a row that does not belong to the task. Raises ValueError for a broken one."""
    leaves_out: str = ""
    """What rows without a question have in common, to tell how many were left out."""
    metric: str = "accuracy"
    instructions: tuple[str, ...] = multiple_choice.INSTRUCTIONS

    @property
    def name(self) -> str:
        """Name of the task."""
        return self.config.name

    def examples(self, split: Split) -> list[Example]:
        rows = load_rows(self.config.source, self.hub, split, self.config.seed)
        read = zip(self.questions_of(rows), rows, strict=True)
        kept = [(question, row.where) for question, row in read if question is not None]
        if not kept:
            raise ValueError(f"{rows[0].where}: every one of {len(rows)} rows {self.leaves_out}; none is left")
        if len(kept) < len(rows):
            left_out = len(rows) - len(kept)
            logger.warning("%s: %d of %d rows are left out: each %s", self.name, left_out, len(rows), self.leaves_out)
        check_unique([(question.id, where) for question, where in kept])
        questions = [question for question, _ in kept]
        chosen = sampled(questions, self.config, split)
        return [multiple_choice.example_of(question, self.config.seed) for question in chosen]

    def grade(self, examples: Sequence[Example], completions: Sequence[str]) -> list[Grade]:
        return [multiple_choice.grade(*pair) for pair in zip(examples, completions, strict=True)]

    def negative_request(self, example: Example) -> NegativeRequest | None:
        return multiple_choice.negative_request(example, self.config.seed)

    def negative_demonstrations(
        self, asked: Sequence[tuple[Example, NegativeRequest]], generated: Sequence[str]
    ) -> list[str | None]:
        return multiple_choice.negative_demonstrations([request for _, request in asked], generated)


def options(row: RawRow, field: str) -> tuple[str, ...]:
    """The texts of a row's options. Raises ValueError for what is no list of 2 to 26 texts."""
    values, most = row.field(field, list), len(multiple_choice.LETTERS)
    if not 2 <= len(values) <= most or not all(isinstance(value, str) and value.strip() for value in values):
        raise ValueError(f"{row.where}: field {field!r} should hold 2 to {most} texts, got {values!r}")
    return tuple(values)


def letter_index(row: RawRow, field: str, key: str, choices: Sequence[str]) -> int:
    """Which option a letter names. Raises ValueError for one that names none."""
    letters = multiple_choice.LETTERS[: len(choices)]
    if len(key) != 1 or key not in letters:
        raise ValueError(f"{row.where}: field {field!r} is {key!r}, which names none of {len(choices)} choices")
    return letters.index(key)


def numbered(row: RawRow, field: str, choices: Sequence[str], first: int = 0) -> int:
    """Which option a number names, counted from `first`. Raises ValueError for one that names none."""
    number = row.field(field, int)
    if isinstance(number, bool) or not 0 <= number - first < len(choices):
        raise ValueError(
            f"{row.where}: field {field!r} is {number}, which names none of {len(choices)} choices counted from {first}"
        )
    return int(number - first)
