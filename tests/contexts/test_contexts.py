"""Layouts and neighbours: what teachers are shown, and what they must not be."""

import dataclasses

import pytest

from unisd.config.task import Contexts
from unisd.contexts.layout import auxiliary_messages, induced_messages, teacher_messages
from unisd.contexts.neighbours import in_contexts, neighbours
from unisd.tasks.types import Example, Message


def example(identity, query="What is it?", demonstration=None):
    return Example(
        id=identity,
        messages=(Message(role="user", content=f"Question: {query}"),),
        demonstration=demonstration or f"Reasoning: {identity}.\nAnswer: A",
        query=query,
        answer="A",
        choices=("x", "y"),
    )


POOL = [
    example(f"id{i}", f"Why does the {word} sleep at night?")
    for i, word in enumerate(["cat", "dog", "cow", "hen", "owl", "pig"])
]


@pytest.mark.parametrize("layout", ["marker", "turns"])
def test_right_and_wrong_contexts_differ_in_the_demonstration_alone(layout):
    right, wrong = (teacher_messages(POOL[0], text, layout) for text in ("RIGHT", "WRONG"))
    assert [m["role"] for m in right] == (["user"] if layout == "marker" else ["user", "assistant", "user"])
    assert str(right).replace("RIGHT", "WRONG") == str(wrong)
    assert "RIGHT" in str(right)


@pytest.mark.parametrize("layout", ["marker", "turns"])
def test_auxiliary_contexts_show_others_and_never_the_own_demonstration(layout):
    messages = auxiliary_messages(POOL[0], POOL[1:3], layout)
    text = "\n".join(m["content"] for m in messages)
    assert POOL[0].demonstration not in text
    assert all(donor.demonstration in text and donor.query in text for donor in POOL[1:3])
    assert messages[-1]["content"].endswith(POOL[0].messages[-1]["content"])


@pytest.mark.parametrize("layout", ["marker", "turns"])
def test_a_system_message_begins_every_context(layout):
    told = Message(role="system", content="Be brief.")
    one = dataclasses.replace(POOL[0], messages=(told, *POOL[0].messages))
    for messages in (
        teacher_messages(one, "RIGHT", layout),
        auxiliary_messages(one, POOL[1:2], layout),
        induced_messages(one, "Read with care."),
    ):
        assert messages[0] == told
        assert "system" not in [message["role"] for message in messages[1:]]


def test_each_context_takes_the_next_donors():
    assert in_contexts("abcdefgh", Contexts(count=2, demonstrations_per_context=3)) == ["abc", "def"]


@pytest.mark.parametrize("source", ["random", "retrieval"])
def test_nobody_gets_himself_or_a_copy_of_himself(source):
    pool = [*POOL, example("copy", "why does the CAT  sleep at night?"), example("far", "How tall is a tower?")]
    found = neighbours(pool, Contexts(source=source, retriever="bm25"), 4, seed=0)
    assert all(len(donors) == len(set(donors)) == 4 for donors in found.values())
    assert not {"id0", "copy"} & {*found["id0"], *found["copy"]}
    assert all(identity not in donors for identity, donors in found.items())
    assert found == neighbours(pool, Contexts(source=source, retriever="bm25"), 4, seed=0)
    fewer = neighbours(pool, Contexts(source=source, retriever="bm25"), 2, seed=0)
    if source == "random":
        assert all(found[identity][:2] == donors for identity, donors in fewer.items())
        assert found != neighbours(pool, Contexts(source=source), 4, seed=1)
        assert len({donors[0] for donors in found.values()}) > 2, "each example has a draw of its own"


def test_retrieval_finds_the_nearest():
    pool = [*POOL, example("tower", "How tall is the old tower?"), example("tall", "How tall is a young tower?")]
    found = neighbours(pool, Contexts(retriever="bm25"), 1, seed=0)
    assert found["tower"] == ["tall"]
    assert found["tall"] == ["tower"]


def test_a_pool_that_is_too_small():
    with pytest.raises(ValueError, match=r"asks for 6 other examples .* has only 5 in a pool of 6"):
        neighbours(POOL, Contexts(source="random"), 6, seed=0)


@pytest.mark.slow
def test_an_embedding_model_that_is_not_there():
    with pytest.raises(
        ValueError, match=r"embeddingModel: /no/model cannot be loaded .*, or set contexts.retriever to bm25"
    ):
        neighbours(POOL, Contexts(embedding_model="/no/model"), 2, seed=0)


def test_induced_contexts_hold_the_instruction_and_no_solution():
    (message,) = induced_messages(POOL[0], "Think before you answer.")
    assert message["content"].endswith(POOL[0].messages[-1]["content"])
    assert "Think before you answer." in message["content"]
    assert POOL[0].demonstration not in message["content"]
    assert "sample response" not in message["content"]
