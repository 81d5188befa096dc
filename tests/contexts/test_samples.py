"""Samples of the baseline ssd: drawn with its settings, without cut, empty and the shortest ones."""

import pytest

from unisd.config.resolve import resolve
from unisd.config.run import Component, RunSpec
from unisd.contexts import samples as module
from unisd.contexts.samples import samples, without_shortest
from unisd.failures import StageError
from unisd.rollouts.types import Completion
from unisd.tasks.types import Example, Message


@pytest.fixture
def arm():
    spec = RunSpec(
        model={"name": "a/b"},
        task={"name": "cos_e"},
        components=[Component(name="ssd", preset="ssd")],
        seeds=[3],
        training={"max_completion_tokens": 9},
    )
    return resolve(spec)[0]


def examples(count):
    return [
        Example(f"id{number}", (Message(role="user", content=f"Question {number}?"),), "d", f"{number}")
        for number in range(count)
    ]


class Engine:
    """The completion of prompt i has the given number of tokens; none where it was cut."""

    def __init__(self, lengths):
        self.lengths, self.samplings = lengths, []

    def generate(self, prompts, sampling):
        self.samplings.append(sampling)
        for index in range(len(prompts)):
            length = self.lengths[index]
            yield Completion(index, (7,) * (length or sampling.max_tokens), (0.0,), finished=length is not None)


def drawn(make_writer, arm, lengths):
    writer, _ = make_writer()
    engine = Engine(lengths)
    writer.start = lambda: engine
    return samples(examples(len(lengths)), arm, writer, lambda _done: None), engine


def test_settings_and_filters(make_writer, arm):
    (kept, counts), engine = drawn(make_writer, arm, [5, None, 1, 4, 3, 2, 6, 7, 8, 5, 6, 7, 3])
    (sampling,) = engine.samplings
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.max_tokens) == (1.5, 0.8, 20, 9)
    assert [row["id"] for row in kept] == [f"id{number}" for number in (0, 3, 4, 6, 7, 8, 9, 10, 11, 12)]
    assert counts == {"drawn": 13, "cut": 1, "short": 2}
    again, idle = drawn(make_writer, arm, [5] * 13)
    assert again == (kept, counts)
    assert idle.samplings == []


def test_every_sample_has_a_random_stream_of_its_own(make_writer, arm, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 2)
    _, engine = drawn(make_writer, arm, [5] * 5)
    assert [sampling.first_index for sampling in engine.samplings] == [0, 2, 4]


def test_the_shortest_tenth_is_left_out():
    rows = [{"ids": [0] * length} for length in (3, 1, 2, 1, 5, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19)]
    kept = without_shortest(rows)
    assert [len(row["ids"]) for row in kept] == [3, 2, *(len(row["ids"]) for row in rows[4:])]
    assert without_shortest(rows[:9]) == rows[:9]


def test_nothing_left_is_an_error(make_writer, arm):
    with pytest.raises(StageError, match=r"none of 2 samples of component ssd can be learnt from, 2 were cut at 9"):
        drawn(make_writer, arm, [None, None])
