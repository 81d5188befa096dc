"""ScienceQA: school science with lectures and explanations (arXiv 2209.09513); rows that show an image are left out."""

from collections.abc import Sequence

from unisd.config.task import Task as TaskConfig
from unisd.tasks.choice_task import ChoiceTask, numbered, options
from unisd.tasks.multiple_choice import Question
from unisd.tasks.rows import RawRow, content_ids
from unisd.tasks.types import HubDataset

HUB = HubDataset(
    "derek-thomas/ScienceQA",
    "test",
    revision="f18b0a70359ebfb41f658fd564208d0355b013f4",
    licence="CC BY-NC-SA 4.0: not for commercial use",
)


def scienceqa(config: TaskConfig) -> ChoiceTask:
    """Rows with question, choices and answer (index); id, hint, lecture, solution, image, subject, topic if given."""
    return ChoiceTask(config, HUB, _questions, leaves_out="shows an image")


def _questions(rows: Sequence[RawRow]) -> list[Question | None]:
    return [_question(*pair) for pair in zip(rows, content_ids(rows, "question", "choices"), strict=True)]


def _question(row: RawRow, identity: str) -> Question | None:
    if row.values.get("image"):
        return None
    choices = options(row, "choices")
    return Question(
        id=str(row.values.get("id") or identity),
        text=row.text("question"),
        choices=choices,
        correct=numbered(row, "answer", choices),
        explanation=row.optional("solution"),
        # The lecture is what is taught, the hint the passage that the question is about.
        context="\n".join(text for text in (row.optional("lecture"), row.optional("hint")) if text),
        groups={kind: text for kind in ("subject", "topic") if (text := row.optional(kind))},
    )
