"""A writer over a fake engine that answers with given texts."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from unisd.contexts.writer import Writer
from unisd.models import load_tokenizer
from unisd.rollouts.types import Completion, Sampling


class FakeEngine:
    """Answers round by round: with the same text for every prompt, or with one for each."""

    def __init__(self, tokenizer: Any, rounds: Sequence[str | Sequence[str]]) -> None:
        self._tokenizer, self._rounds = tokenizer, list(rounds)
        self.prompts: list[list[str]] = []
        self.samplings: list[Sampling] = []

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> Iterator[Completion]:
        texts = self._rounds[len(self.prompts)]
        self.prompts.append([self._tokenizer.decode(prompt) for prompt in prompts])
        self.samplings.append(sampling)
        for index in reversed(range(len(prompts))):
            text = texts if isinstance(texts, str) else texts[index]
            ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
            yield Completion(index, tuple(ids), (0.0,) * len(ids), finished=True)


@pytest.fixture
def make_writer(tiny_model: Path, tmp_path: Path) -> Callable[..., tuple[Writer, FakeEngine]]:
    """A writer whose engine answers the given rounds; the cache is one for a test."""
    tokenizer = load_tokenizer(tiny_model)

    def make(*rounds: str | Sequence[str], longest_prompt: int = 4096) -> tuple[Writer, FakeEngine]:
        engine = FakeEngine(tokenizer, rounds)
        writer = Writer(tokenizer, {"model": "m"}, lambda: engine, tmp_path / "cache", longest_prompt)
        return writer, engine

    return make
