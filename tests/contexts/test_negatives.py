"""Wrong demonstrations: asked for again, left out, counted, kept by content."""

import dataclasses

import pytest

from unisd.config.task import Contexts
from unisd.contexts import negatives as module
from unisd.contexts.negatives import negatives
from unisd.failures import StageError
from unisd.tasks.types import Example, Message, NegativeRequest

POOL = [
    Example(
        id=f"id{number}",
        messages=(Message(role="user", content=f"Question {number}?"),),
        demonstration="Reasoning: it is so.\nAnswer: A",
        query=f"{number}",
        answer="A",
        choices=("x", "y"),
    )
    for number in range(6)
]
LENIENT = Contexts(max_missing_negatives=1.0)


class FakeTask:
    """Takes a text that contains "good"; the last example of the pool can have no negative."""

    def negative_request(self, found):
        return None if found.id == "id5" else NegativeRequest(found.messages, "It is B, because", "B", frame="B")

    def negative_demonstrations(self, asked, generated):
        return [
            f"{text.strip()} {request.answer}" if "good" in text else None
            for (_, request), text in zip(asked, generated, strict=True)
        ]


def made(examples, writer, contexts=LENIENT, progress=lambda _done: None):
    return negatives(examples, FakeTask(), contexts, 4, writer=writer, progress=progress)


def test_asked_for_again_then_left_out(make_writer):
    given = dataclasses.replace(POOL[0], negative="given")
    writer, engine = make_writer(["bad", "good", "bad", "bad"], "good one", "never")
    found = made([given, *POOL[1:]], writer)
    assert [row["id"] for row in found] == ["id0", "id1", "id2", "id3", "id4"]
    assert found[0] == {"id": "id0", "answer": None, "demonstration": "given", "attempts": 0}
    assert found[1] == {"id": "id1", "answer": "B", "demonstration": "good one B", "attempts": 2}
    assert found[2] == {"id": "id2", "answer": "B", "demonstration": "good B", "attempts": 1}
    assert [len(prompts) for prompts in engine.prompts] == [4, 3]
    assert len({sampling.seed for sampling in engine.samplings}) == 2
    assert engine.prompts[0][0].endswith("It is B, because")
    assert engine.samplings[0].max_tokens == LENIENT.max_generated_tokens


def test_what_was_written_is_kept_by_everything_it_depends_on(make_writer):
    first, _ = make_writer("good")
    found = made(POOL, first)
    second, idle = make_writer()
    assert made(POOL, second) == found
    assert idle.prompts == []
    for changed in (
        [dataclasses.replace(POOL[0], demonstration="other"), *POOL[1:]],
        [dataclasses.replace(POOL[0], tests=("assert x",)), *POOL[1:]],
    ):
        writer, engine = make_writer("good")
        made(changed, writer)
        assert len(engine.prompts) == 1
    writer, engine = make_writer("good")
    made(POOL, writer, LENIENT.model_copy(update={"max_generated_tokens": 7}))
    assert len(engine.prompts) == 1


def test_the_form_of_texts_reaches_the_engine(make_writer):
    """Servers hold their decoding to it."""
    schema = {"type": "object"}

    class Calls(FakeTask):
        def negative_request(self, found):
            asked = super().negative_request(found)
            return asked and dataclasses.replace(asked, schema=schema)

    writer, engine = make_writer("good")
    negatives(POOL, Calls(), LENIENT, 4, writer=writer, progress=lambda _done: None)
    writer, free = make_writer("good")
    made(POOL, writer)
    assert [found.samplings[0].schema for found in (engine, free)] == [schema, None]


def test_a_stage_that_was_killed_goes_on(make_writer, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 2)
    told = []

    def die(done):
        told.append(done)
        if done == 4:
            raise KeyboardInterrupt

    writer, _ = make_writer("good", "good")
    with pytest.raises(KeyboardInterrupt):
        made(POOL, writer, progress=die)
    writer, engine = make_writer("good")
    assert len(made(POOL, writer, progress=told.append)) == 5
    assert len(engine.prompts) == 1
    assert told == [2, 4, 2, 4, 6]


def test_too_many_without_are_an_error(make_writer):
    writer, _ = make_writer("bad", "bad", "bad")
    strict = Contexts(max_missing_negatives=0.5)
    with pytest.raises(StageError, match=r"maxMissingNegatives: 6 of 6 examples have no valid .* first 'id0'"):
        made(POOL, writer, strict)
    writer, _ = make_writer("good")
    assert len(made(POOL[4:], writer, strict)) == 1, "just as many as are allowed"


def test_the_reference_itself_is_no_negative(make_writer):
    class Parrot(FakeTask):
        def negative_demonstrations(self, asked, generated):
            return [example.demonstration for example, _ in asked]

    writer, _ = make_writer("good", "good", "good")
    assert negatives(POOL, Parrot(), LENIENT, 4, writer=writer, progress=lambda _done: None) == []


def test_prompts_beyond_the_limit_are_not_asked(make_writer):
    long = dataclasses.replace(POOL[0], messages=(Message(role="user", content="why " * 500),))
    writer, engine = make_writer("good", "good", "good", longest_prompt=200)
    assert [row["id"] for row in made([long, POOL[1]], writer)] == ["id1"]
    assert [len(prompts) for prompts in engine.prompts] == [1, 0, 0]
