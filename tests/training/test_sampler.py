"""Which rows a step sees: whole permutations, tails kept, a function of seed and epoch, shared out without overlap."""

from itertools import chain

import pytest

from unisd.training.sampler import StepSampler


def test_every_epoch_has_every_row_once_and_keeps_its_tail():
    steps = list(StepSampler(rows=10, rows_per_step=4, epochs=2, seed=3))
    assert [len(step) for step in steps] == [4, 4, 2, 4, 4, 2]
    epochs = [list(chain(*steps[:3])), list(chain(*steps[3:]))]
    assert [sorted(epoch) for epoch in epochs] == [list(range(10))] * 2
    assert epochs[0] != epochs[1], "a new permutation"


def test_the_order_is_that_of_seed_and_epoch_alone():
    first, again, other = (list(StepSampler(10, 4, 2, seed)) for seed in (3, 3, 4))
    assert first == again
    assert first != other
    sampler = StepSampler(10, 4, 2, 3)
    assert [sampler.step_rows(step) for step in range(6)] == first, "a resume needs the step's number alone"


def test_processes_share_a_step_in_its_order():
    whole = list(StepSampler(7, 5, 1, 3))
    parts = []
    for rank in range(3):
        sampler = StepSampler(7, 5, 1, 3)
        sampler.rank, sampler.world = rank, 3
        parts.append(list(sampler))
    assert [list(chain(*(part[step] for part in parts))) for step in range(2)] == whole
    assert [[len(part[step]) for part in parts] for step in range(2)] == [[1, 2, 2], [0, 1, 1]]


def test_bounds():
    assert len(StepSampler(10, 4, 2, 3, max_steps=5)) == 5
    assert len(StepSampler(10, 4, 2, 3, max_steps=50)) == 6
    with pytest.raises(ValueError, match="no rows to train on"):
        StepSampler(0, 4, 1, 3)
