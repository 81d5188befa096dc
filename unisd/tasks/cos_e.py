"""CoS-E v1.11: commonsense questions with five options and human explanations (arXiv 1906.02361)."""

from collections.abc import Sequence

from unisd.config.task import Task as TaskConfig
from unisd.tasks.choice_task import ChoiceTask, letter_index, options
from unisd.tasks.multiple_choice import Question
from unisd.tasks.rows import RawRow
from unisd.tasks.types import HubDataset

HUB = HubDataset(
    "Salesforce/cos_e", "validation", config="v1.11", licence="BSD 3-Clause; its questions, CommonsenseQA: MIT"
)


def cos_e(config: TaskConfig) -> ChoiceTask:
    """Rows with id, question, choices, answer (text), abstractive_explanation and, optionally, answerKey."""
    return ChoiceTask(config, HUB, _questions)


def _questions(rows: Sequence[RawRow]) -> list[Question | None]:
    return [_question(row) for row in rows]


def _question(row: RawRow) -> Question:
    choices = options(row, "choices")
    return Question(
        id=row.text("id"),
        text=row.text("question"),
        choices=choices,
        correct=_correct(row, choices),
        explanation=row.field("abstractive_explanation"),
    )


def _correct(row: RawRow, choices: tuple[str, ...]) -> int:
    """Index of the right option; the key decides where given, since two options can have one text."""
    if row.values.get("answerKey") is not None:
        return letter_index(row, "answerKey", row.field("answerKey"), choices)
    answer = row.field("answer")
    if answer not in choices:
        raise ValueError(f"{row.where}: field 'answer' is {answer!r}, which is none of the choices {list(choices)}")
    return choices.index(answer)
