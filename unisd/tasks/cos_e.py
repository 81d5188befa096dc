"""CoS-E v1.11: commonsense questions with five options and human explanations (arXiv 1906.02361)."""

from collections.abc import Sequence

from unisd.config.task import Task as TaskConfig
from unisd.tasks import multiple_choice
from unisd.tasks.rows import HubDataset, RawRow, check_unique, load_rows, sampled
from unisd.tasks.types import Example, Grade, NegativeRequest, Split

HUB = HubDataset("Salesforce/cos_e", "validation", config="v1.11")


class CosE:
    """Rows with id, question, choices, answer (text), abstractive_explanation and, optionally, answerKey."""

    name = "cos_e"
    metric = "accuracy"
    instructions = multiple_choice.INSTRUCTIONS

    def __init__(self, config: TaskConfig) -> None:
        self._config = config

    def examples(self, split: Split) -> list[Example]:
        rows = load_rows(self._config.source, HUB, split, self._config.seed)
        check_unique([(row.field("id"), row.where) for row in rows])
        limit = self._config.max_train_examples if split == "train" else self._config.max_eval_examples
        chosen = sampled(rows, [row.field("id") for row in rows], limit, self._config.seed)
        return [multiple_choice.example_of(_question(row), self._config.seed) for row in chosen]

    def grade(self, examples: Sequence[Example], completions: Sequence[str]) -> list[Grade]:
        return [multiple_choice.grade(*pair) for pair in zip(examples, completions, strict=True)]

    def negative_request(self, example: Example) -> NegativeRequest | None:
        return multiple_choice.negative_request(example, self._config.seed)

    def negative_demonstration(self, example: Example, request: NegativeRequest, generated: str) -> str | None:
        return multiple_choice.negative_demonstration(request, generated)


def _question(row: RawRow) -> multiple_choice.Question:
    choices = tuple(str(choice) for choice in row.field("choices", list))
    return multiple_choice.Question(
        id=row.field("id"),
        text=row.field("question"),
        choices=choices,
        correct=_correct(row, choices),
        explanation=row.field("abstractive_explanation"),
    )


def _correct(row: RawRow, choices: tuple[str, ...]) -> int:
    """Index of the right option; the key decides where given, since two options can have one text."""
    key = row.values.get("answerKey")
    if key is not None:
        if not isinstance(key, str) or key not in multiple_choice.LETTERS[: len(choices)] or len(key) != 1:
            raise ValueError(f"{row.where}: field 'answerKey' is {key!r}, which names none of {len(choices)} choices")
        return multiple_choice.LETTERS.index(key)
    answer = row.field("answer")
    if answer not in choices:
        raise ValueError(f"{row.where}: field 'answer' is {answer!r}, which is none of the choices {list(choices)}")
    return choices.index(answer)
