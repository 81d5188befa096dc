"""What a task deals in: messages, examples, grades, and the protocol that every task fulfils."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypedDict

Split = Literal["train", "eval"]


class Message(TypedDict):
    """One chat message."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Example:
    """One row of a task, ready to prompt with and to grade; everything is text."""

    id: str
    """Stable over runs and machines; names the example in caches, seeds and reports."""
    messages: tuple[Message, ...]
    """What the student is shown; ends with a user message."""
    demonstration: str
    """The reference: shown to teachers, and the completion of SFT and of gold perplexity."""
    query: str
    """What retrieval compares: the bare question."""
    answer: str | None = None
    """The gold answer in the form that grading compares; None where nothing is graded."""
    choices: tuple[str, ...] = ()
    """Option texts in the order shown (A, B, …); empty where there are none."""
    tests: tuple[str, ...] = ()
    """Assertions that code must pass."""
    setup: str = ""
    """Code that runs before the tests."""
    negative: str | None = None
    """A wrong demonstration that came with the row."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """What the row is about, e.g. its subject; scores are broken down by it."""


@dataclass(frozen=True)
class Grade:
    """The verdict on one completion."""

    correct: bool
    """Whether the answer is right; false where none was found."""
    found: bool
    """Whether an answer could be extracted."""
    answer: str | None
    """The extracted answer, for reports."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """Finer figures from 0 to 1, e.g. the share of right arguments; the same names for every row of a task."""


@dataclass(frozen=True)
class NegativeRequest:
    """What to ask a model for, so that a wrong demonstration can be put together from its text."""

    messages: tuple[Message, ...]
    """Prompt; ends with a user message."""
    prefix: str
    """How the assistant's turn begins, written by us; generation continues it."""
    answer: str
    """The wrong answer that was assigned, or the kind of mistake that was asked for."""
    frame: str
    """The wrong demonstration around an empty generated text: with the cap of that text, its longest form."""
    schema: Mapping[str, Any] | None = None
    """JSON Schema of the text, the same for all rows of a task; None where it is no JSON."""


@dataclass(frozen=True)
class HubDataset:
    """Where a task's rows are published."""

    name: str
    eval_split: str
    revision: str | None = None
    """A commit; None takes the newest, which changes with the publisher."""
    config: str | None = None
    licence: str = ""
    """The rows' own, for the cards of what is trained on them."""
    held_out: bool = False
    """Whether all rows are for evaluation, however they are split: nothing is trained on them."""


class Task(Protocol):
    """A task: rows in the published schema in, prompts, demonstrations and grades out."""

    @property
    def name(self) -> str:
        """Name of the task."""
        ...

    @property
    def hub(self) -> HubDataset | None:
        """Where its rows are published; None for rows of one's own."""
        ...

    @property
    def metric(self) -> str:
        """Name of the score, e.g. `accuracy` or `pass@1`."""
        ...

    @property
    def instructions(self) -> tuple[str, ...]:
        """The sentences of the prompt template, to notice completions that repeat them."""
        ...

    def examples(self, split: Split) -> list[Example]:
        """All examples of a split. Raises ValueError with file, row and field for a broken row."""
        ...

    def grade(self, examples: Sequence[Example], completions: Sequence[str]) -> list[Grade]:
        """Verdicts, one per pair, in order."""
        ...

    def negative_request(self, example: Example) -> NegativeRequest | None:
        """How to have a wrong demonstration generated; None if the task has no such way."""
        ...

    def negative_demonstrations(
        self, asked: Sequence[tuple[Example, NegativeRequest]], generated: Sequence[str]
    ) -> list[str | None]:
        """For each generated text the wrong demonstration in the template of right ones; None where it will not do."""
        ...
