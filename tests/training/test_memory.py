"""When memory runs out: smaller passes, the same step, and a word about it."""

import pytest
import torch

from unisd.config.training import Training
from unisd.failures import StageError
from unisd.files import read_json, read_jsonl
from unisd.training import rollouts
from unisd.training.memory import in_words, leave_note, noted, out_of_memory, smaller


def exhausted():
    """The error of an allocation that this machine really refuses."""
    with pytest.raises(RuntimeError) as refused:
        torch.empty(1 << 60, dtype=torch.uint8)
    return refused.value


def test_a_refused_allocation_is_told_from_other_errors():
    assert out_of_memory(exhausted())
    assert out_of_memory(torch.cuda.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(RuntimeError) as other:
        torch.ones(2) @ torch.ones(3)
    assert not out_of_memory(other.value)


def test_halving():
    assert [smaller(4, n) for n in range(4)] == [4, 2, 1, 1]
    told = in_words(Training(per_device_batch_size=4, gradient_accumulation_steps=3), 1)
    assert "passes of 2 rows in place of 4, 6 a step in place of 3; a step has the same rows as before" in told


def test_the_note_that_asks_for_the_smallest_passes_counts(tmp_path):
    first, second, third = (tmp_path / str(number) for number in (1, 2, 3))
    assert noted([second, first]) == 0
    leave_note(first, 2)
    leave_note(second, 1)
    assert noted([third, second, first]) == 2
    leave_note(third, 3)
    assert noted([third, second, first]) == 3


class Scarce:
    """Rollouts whose engine is out of memory the first `times` times that it is asked."""

    def __init__(self, inner, times):
        self.inner, self.times = inner, times

    def engine(self, trained, batch_size):
        if self.times:
            self.times -= 1
            raise exhausted()
        return self.inner.engine(trained, batch_size)

    def after_step(self, trained):
        return self.inner.after_step(trained)


@pytest.fixture
def scarce(monkeypatch):
    def make(times):
        inner = rollouts.InProcess
        monkeypatch.setattr("unisd.train.InProcess", lambda ending: Scarce(inner(ending), times))

    return make


@pytest.mark.slow
def test_the_step_is_the_same_in_smaller_passes_and_the_report_says_so(trained, weights, scarce):
    component = {"name": "star", "preset": "unisd_star"}
    plain = trained(component)
    expected, before = weights(plain, "star-1"), read_jsonl(plain.train("star-1") / "metrics.jsonl")
    scarce(1)
    directory = trained(component)
    result = read_json(directory.train("star-1") / "result.json")
    assert result["counters"]["memory_halvings"] == 1
    assert any("passes of 1 rows in place of 2, 4 a step in place of 2" in told for told in result["warnings"])
    after = read_jsonl(directory.train("star-1") / "metrics.jsonl")
    assert [row["rows"] for row in after] == [row["rows"] for row in before]
    assert [row["loss"] for row in after] == pytest.approx([row["loss"] for row in before], rel=1e-4)
    found = weights(directory, "star-1")
    assert all(torch.allclose(found[name], expected[name], atol=2e-4) for name in expected)


@pytest.mark.slow
def test_when_one_row_is_too_much_the_way_out_is_told(trained, scarce):
    scarce(9)
    with pytest.raises(StageError, match=r"one row at a time: set training.gradientCheckpointing"):
        trained({"name": "star", "preset": "ema"})
