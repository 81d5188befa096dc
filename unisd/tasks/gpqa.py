"""GPQA: questions that experts write and non-experts cannot look up (arXiv 2311.12022). For evaluation only.

The hub dataset is gated: accept its terms there and set HF_TOKEN. Its authors ask that no question is put online in
plain text, so none stands in this repository.
"""

from collections.abc import Sequence

from unisd.config.task import Task as TaskConfig
from unisd.tasks.choice_task import ChoiceTask
from unisd.tasks.multiple_choice import Question
from unisd.tasks.rows import RawRow, content_ids
from unisd.tasks.types import HubDataset

HUB = HubDataset(
    "Idavidrein/gpqa",
    "train",
    revision="633f5ee89ab8ad4522a9f850766b73f62147ffdd",
    config="gpqa_main",
    held_out=True,
)
_ANSWERS = ("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")
_GROUPS = {"domain": "High-level domain", "subdomain": "Subdomain"}


def gpqa(config: TaskConfig) -> ChoiceTask:
    """Rows with Question, Correct Answer, Incorrect Answer 1 to 3 and, optionally, Record ID, Explanation, domains."""
    return ChoiceTask(config, HUB, _questions)


def _questions(rows: Sequence[RawRow]) -> list[Question | None]:
    return [_question(*pair) for pair in zip(rows, content_ids(rows, "Question"), strict=True)]


def _question(row: RawRow, identity: str) -> Question:
    return Question(
        id=str(row.values.get("Record ID") or identity),
        text=row.text("Question").strip(),
        choices=tuple(row.text(answer).strip() for answer in _ANSWERS),
        correct=0,
        explanation=row.optional("Explanation"),
        groups={kind: text for kind, name in _GROUPS.items() if (text := row.optional(name))},
    )
