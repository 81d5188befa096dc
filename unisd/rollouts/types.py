"""The protocol of generation: token ids in, completions out as they finish."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


def derived_seed(seed: int, number: int) -> int:
    """The seed of one of many under a seed: of a step of a component, of a prompt of a request."""
    return seed * 1_000_003 + number


@dataclass(frozen=True)
class Sampling:
    """How to choose tokens."""

    temperature: float
    """0 takes the most likely token; otherwise logits are divided by it and sampled from."""
    max_tokens: int
    """Longest completion, its stop token included."""
    seed: int = 0
    """Same seed, prompts and weights: same completions, where the engine generates in this process."""
    top_p: float = 1.0
    """Draws from the smallest set of most likely tokens that holds at least this probability; 1 from all."""
    top_k: int | None = None
    """Draws from the most likely tokens, this many; None from all. Applied before `top_p`, as vLLM does."""
    schema: Mapping[str, Any] | None = None
    """JSON Schema that servers hold decoding to; generation in this process is free. None for any text."""
    first_index: int = 0
    """Index of the first prompt in the random streams, for processes that share the prompts of one step."""


@dataclass(frozen=True)
class Completion:
    """One generated completion."""

    index: int
    """Which prompt of the request it answers."""
    ids: tuple[int, ...]
    """Token ids; the last is a stop token if `finished`."""
    logprobs: tuple[float, ...]
    """Log-probability of each token at temperature 1, in nats."""
    finished: bool
    """False where the limit cut it off."""

    @property
    def surprisal(self) -> float:
        """Mean −log π of its tokens, whatever their number; of one with tokens and their log-probabilities."""
        return -sum(self.logprobs) / len(self.logprobs)


class RolloutEngine(Protocol):
    """Something that generates."""

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> Iterator[Completion]:
        """Completions of all prompts, each yielded as soon as it is finished, in any order."""
        ...
