"""MedMCQA: questions of medical entrance examinations with four options (arXiv 2203.14371)."""

import logging
import re
from collections.abc import Sequence

from unisd.config.task import Task as TaskConfig
from unisd.tasks.choice_task import ChoiceTask, numbered
from unisd.tasks.multiple_choice import Question
from unisd.tasks.rows import RawRow
from unisd.tasks.types import HubDataset

logger = logging.getLogger(__name__)

HUB = HubDataset(
    "openlifescienceai/medmcqa", "validation", revision="91c6572c454088bf71b679ad90aa8dffcd0d5868", licence="MIT"
)
_OPTIONS = ("opa", "opb", "opc", "opd")
_UNLABELLED = -1
# A quarter of the explanations begin with the letter of the answer in the published order, which is not the one shown.
_OPENING = re.compile(r"^\s*ans(?:wer)?s?\b[\s.:\-]*[('\"]*[a-d](?![a-z])[)'\"]*[\s.:,\-]*", re.IGNORECASE)


def medmcqa(config: TaskConfig) -> ChoiceTask:
    """Rows with id, question, opa to opd, cop (index) and, optionally, exp, subject_name and topic_name."""
    return ChoiceTask(config, HUB, _questions, leaves_out="has a hidden answer")


def _questions(rows: Sequence[RawRow]) -> list[Question | None]:
    first = _first_number(rows)
    return [_question(row, first) for row in rows]


def _first_number(rows: Sequence[RawRow]) -> int:
    """What `cop` counts from: 0 as published on the hub, 1 in the authors' own files. Told by a row with 0 or 4.

    Raises:
        ValueError: both occur.
    """
    numbers = {number for row in rows if isinstance(number := row.values.get("cop"), int)}
    if {0, len(_OPTIONS)} <= numbers:
        raise ValueError(
            f"{rows[0].where}: field 'cop' is 0 in some rows and {len(_OPTIONS)} in others; count from one"
        )
    if not {0, len(_OPTIONS), _UNLABELLED} & numbers:
        logger.warning("%s: field 'cop' is neither 0 nor 4 in any row; it is taken to count from 0", rows[0].where)
    return int(len(_OPTIONS) in numbers)


def _question(row: RawRow, first: int) -> Question | None:
    if row.values.get("cop") == _UNLABELLED:
        return None
    choices = tuple(row.field(option) for option in _OPTIONS)
    return Question(
        id=row.text("id"),
        text=row.field("question"),
        choices=choices,
        correct=numbered(row, "cop", choices, first),
        explanation=_OPENING.sub("", row.optional("exp")),
        groups={kind: text for kind in ("subject", "topic") if (text := row.optional(f"{kind}_name"))},
    )
