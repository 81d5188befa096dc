"""Training rows as token ids: every prompt that a step needs of one example, built when the step asks for it."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unisd.chat import completion_ids, prompt_ids
from unisd.config.resolve import Arm
from unisd.contexts.layout import auxiliary_messages, induced_messages, teacher_messages
from unisd.contexts.neighbours import in_contexts
from unisd.tasks.types import Example

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Row:
    """The prompts of one example."""

    id: str
    """The example's id."""
    prompt: list[int]
    """What the student is shown."""
    teacher: list[int]
    """The same with the reference demonstration."""
    contexts: list[list[int]]
    """The auxiliary contexts; empty without agreement."""
    negative: list[int] | None
    """The context with a wrong demonstration; None where there is none, or no contrastive term."""
    reference: list[int]
    """The reference demonstration as a completion; empty where no step learns on references."""


class Rows(Sequence[Row]):
    """The rows of one arm, tokenised on access."""

    def __init__(
        self,
        examples: Sequence[Example],
        arm: Arm,
        tokenizer: Any,
        *,
        donors: Mapping[str, Sequence[Example]],
        instructions: Mapping[str, Sequence[str]],
        negatives: Mapping[str, str],
    ) -> None:
        """Rows of `examples` in order.

        Args:
            examples: the training examples.
            arm: says which contexts a row needs.
            tokenizer: the model's.
            donors: for each example id the other examples of its auxiliary contexts, in order.
            instructions: for each example id the induced instructions of its auxiliary contexts, where they are that.
            negatives: wrong demonstrations by example id.
        """
        self._examples, self._arm, self._tokenizer = examples, arm, tokenizer
        self._donors, self._instructions, self._negatives = donors, instructions, negatives

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: Any) -> Any:
        example = self._examples[index]
        layout = self._arm.contexts.layout
        negative = self._negatives.get(example.id) if self._arm.objective.contrastive else None
        return Row(
            id=example.id,
            prompt=prompt_ids(self._tokenizer, example.messages),
            teacher=prompt_ids(self._tokenizer, teacher_messages(example, example.demonstration, layout)),
            contexts=self._contexts(example),
            negative=None
            if negative is None
            else prompt_ids(self._tokenizer, teacher_messages(example, negative, layout)),
            reference=self._reference(example),
        )

    def _reference(self, example: Example) -> list[int]:
        if self._arm.sampling.on_policy == 1.0:
            return []
        return completion_ids(self._tokenizer, example.demonstration)

    def _contexts(self, example: Example) -> list[list[int]]:
        if self._arm.objective.agreement is None:
            return []
        if self._arm.induces:
            told = self._instructions[example.id]
            return [prompt_ids(self._tokenizer, induced_messages(example, instruction)) for instruction in told]
        contexts = self._arm.contexts
        groups = in_contexts(self._donors[example.id], contexts)
        return [prompt_ids(self._tokenizer, auxiliary_messages(example, group, contexts.layout)) for group in groups]


@dataclass(frozen=True)
class ReferenceRow:
    """A prompt and the tokens of its reference demonstration, for supervised fine-tuning."""

    id: str
    prompt: list[int]
    completion: list[int]


def reference_rows(examples: Sequence[Example], tokenizer: Any, max_completion_tokens: int) -> list[ReferenceRow]:
    """Rows of the references, each cut to the completion limit, which is told."""
    rows, cut = [], 0
    for example in examples:
        completion = completion_ids(tokenizer, example.demonstration)
        cut += len(completion) > max_completion_tokens
        prompt = prompt_ids(tokenizer, example.messages)
        rows.append(ReferenceRow(example.id, prompt, completion[:max_completion_tokens]))
    if cut:
        logger.warning(
            "%d of %d references are longer than training.maxCompletionTokens (%d) and learnt without their end",
            cut,
            len(rows),
            max_completion_tokens,
        )
    return rows


def sample_rows(examples: Sequence[Example], tokenizer: Any, drawn: Mapping[str, list[int]]) -> list[ReferenceRow]:
    """Rows of the model's own samples, by example id; examples without one are left out."""
    return [
        ReferenceRow(example.id, prompt_ids(tokenizer, example.messages), drawn[example.id])
        for example in examples
        if example.id in drawn
    ]
