"""Steps on samples and steps on references."""

import pytest

from unisd.config.model import Model
from unisd.config.resolve import resolve
from unisd.config.run import Component, RunSpec
from unisd.config.sampling import Sampling
from unisd.config.task import Task
from unisd.training.on_policy import learns_on_samples, references
from unisd.training.rows import Row


def arm(share, seed=1):
    component = Component(name="it", sampling=Sampling(on_policy=share))
    spec = RunSpec(model=Model(name="a/b"), task=Task(name="cos_e"), components=[component], seeds=[seed])
    return resolve(spec)[0]


def test_the_share_of_steps_on_samples_is_the_one_asked_for():
    steps = [learns_on_samples(arm(0.8), step) for step in range(2000)]
    assert sum(steps) / 2000 == pytest.approx(0.8, abs=0.03)
    assert steps == [learns_on_samples(arm(0.8), step) for step in range(2000)]
    assert steps != [learns_on_samples(arm(0.8, seed=2), step) for step in range(2000)]
    assert all(learns_on_samples(arm(1.0), step) for step in range(50))
    assert not any(learns_on_samples(arm(0.0), step) for step in range(50))


def test_references_are_cut_at_the_limit_and_end_if_they_fit():
    rows = [Row("a", [1], [1], [], None, reference=list(range(length))) for length in (2, 3, 4)]
    found = references(rows, 3)
    assert [(c.index, c.ids, c.logprobs, c.finished) for c in found] == [
        (0, (0, 1), (), True), (1, (0, 1, 2), (), True), (2, (0, 1, 2), (), False)
    ]  # fmt: skip
