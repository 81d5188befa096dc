"""Rows of supervised fine-tuning: references to their limit, samples where there are any."""

import pytest

from unisd.chat import completion_ids, prompt_ids
from unisd.models import load_tokenizer
from unisd.tasks.types import Example, Message
from unisd.training.rows import reference_rows, sample_rows

EXAMPLES = [
    Example(f"id{length}", (Message(role="user", content="Why?"),), "so " * length, "Why?") for length in (1, 40)
]


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return load_tokenizer(tiny_model)


def test_references_are_cut_at_the_limit_which_is_told(tokenizer, caplog):
    short, long = (completion_ids(tokenizer, example.demonstration) for example in EXAMPLES)
    rows = reference_rows(EXAMPLES, tokenizer, len(short) + 2)
    assert [row.completion for row in rows] == [short, long[: len(short) + 2]]
    assert all(row.prompt == prompt_ids(tokenizer, EXAMPLES[0].messages) for row in rows)
    assert "1 of 2 references are longer than training.maxCompletionTokens" in caplog.text
    caplog.clear()
    assert reference_rows(EXAMPLES, tokenizer, len(long))[1].completion == long
    assert not caplog.text


def test_examples_without_a_sample_are_left_out(tokenizer):
    (row,) = sample_rows(EXAMPLES, tokenizer, {"id40": [5, 6]})
    assert (row.id, row.completion) == ("id40", [5, 6])
