"""The bench of a training step at its smallest shape: what it forwards, not how fast."""

import pytest
from torch.autograd.graph import saved_tensors_hooks

from bench.step import SHAPES, measure, measure_plain, table

SETTINGS = {"steps": 3, "checkpointing": False, "device": "cpu"}
TINY = SHAPES["tiny"]
COMPLETIONS, ROWS = sum(TINY.completions), len(TINY.completions)


def scored(contexts: int) -> int:
    """Tokens of that many contexts of every row."""
    return contexts * (ROWS * TINY.context + COMPLETIONS)


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("SFT, packed", 0),
        ("divergence alone", scored(1)),
        ("UniSD* without agreement", scored(2)),
        ("UniSD*", scored(5)),
    ],
)
def test_each_case_forwards_what_its_mechanisms_need(case, expected):
    found = measure(case, TINY, **SETTINGS)
    assert found.tokens == (expected, COMPLETIONS + ROWS * TINY.prompt)
    assert found.seconds > 0
    assert len(found.steps) == 1


def test_the_gate_scores_the_contexts_of_the_most_surprising_completion_alone():
    found = measure("UniSD*, gate 0.75", TINY, **SETTINGS)
    assert found.tokens[0] == scored(2) + 3 * (TINY.context + TINY.completions[-1])


def test_plain_supervised_fine_tuning_pays_for_padding():
    found = measure_plain(TINY, **SETTINGS)
    assert found.tokens == (0, ROWS * (TINY.prompt + max(TINY.completions)))
    assert list(table([found, found]))[-1].endswith("| 1.00 |")


@pytest.mark.parametrize("case", ["SFT, packed", "UniSD*"])
def test_recomputing_activations_keeps_fewer_of_them(case):
    kept = {}
    for checkpointing in (False, True):
        sizes: list[int] = []
        with saved_tensors_hooks(lambda value, sizes=sizes: sizes.append(value.numel()) or value, lambda value: value):
            measure(case, TINY, **{**SETTINGS, "checkpointing": checkpointing})
        kept[checkpointing] = sum(sizes)
    assert kept[True] < 0.7 * kept[False]
