"""Completions of examples, in order. Used by evaluation and by probes during training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from unisd.chat import prompt_ids
from unisd.rollouts.types import RolloutEngine, Sampling
from unisd.tasks.types import Example


@dataclass(frozen=True)
class Generated:
    """One completion."""

    prompt: list[int]
    ids: list[int]
    text: str
    finished: bool


def completions_of(
    engine: RolloutEngine,
    tokenizer: Any,
    examples: Sequence[Example],
    sampling: Sampling,
    progress: Callable[[int], None] | None = None,
) -> list[Generated]:
    """A completion of every example; `progress` is told how many are done."""
    prompts = [prompt_ids(tokenizer, example.messages) for example in examples]
    found: dict[int, Generated] = {}
    for completion in engine.generate(prompts, sampling):
        text = tokenizer.decode(completion.ids, skip_special_tokens=True)
        found[completion.index] = Generated(prompts[completion.index], list(completion.ids), text, completion.finished)
        if progress is not None:
            progress(len(found))
    return [found[index] for index in range(len(examples))]
