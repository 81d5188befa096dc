"""Signs of collapse in texts, by hand."""

import pytest

from unisd.training.signs import instruction_ngrams, leaks, repetition

INSTRUCTIONS = instruction_ngrams(["End with one line that holds one letter.", "Short."])


@pytest.mark.parametrize(
    ("text", "leak"),
    [
        ("so END with one line  that is it", True),
        ("end with one line and that", False),
        ("short.", False),
        ("", False),
    ],
)
def test_five_words_of_an_instruction_are_a_leak(text, leak):
    assert leaks(text, INSTRUCTIONS) is leak


@pytest.mark.parametrize(
    ("ids", "share"),
    [
        ([1, 2, 3, 4, 5, 6], 0.0),
        ([7] * 8, 0.8),  # five 4-grams, one of its kind
        ([1, 2, 3, 4, 1, 2, 3, 4], 0.2),
        ([1, 1, 1, 1], 0.0),  # a single one
        ([], 0.0),
    ],
)
def test_repetition_is_the_share_of_ngrams_seen_before(ids, share):
    assert repetition(ids) == pytest.approx(share)
