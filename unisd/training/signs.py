"""Signs of collapse in sampled text: what a falling loss does not show. Pure; text is data here, never run."""

from collections.abc import Sequence


def _ngrams(words: Sequence[object], size: int) -> list[tuple[object, ...]]:
    return [tuple(words[start : start + size]) for start in range(len(words) - size + 1)]


def instruction_ngrams(instructions: Sequence[str], size: int = 5) -> frozenset[tuple[object, ...]]:
    """All n-grams of words of a template's instructions."""
    return frozenset(ngram for text in instructions for ngram in _ngrams(text.lower().split(), size))


def leaks(completion: str, instructions: frozenset[tuple[object, ...]], size: int = 5) -> bool:
    """Whether a completion repeats an n-gram of the template's own instructions."""
    return any(ngram in instructions for ngram in _ngrams(completion.lower().split(), size))


def repetition(ids: Sequence[int], size: int = 4) -> float:
    """Share of a completion's token n-grams that occurred in it before; 0 where it is too short for two."""
    ngrams = _ngrams(ids, size)
    return 1.0 - len(set(ngrams)) / len(ngrams) if len(ngrams) > 1 else 0.0
