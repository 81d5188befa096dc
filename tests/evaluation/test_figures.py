"""Figures of items by hand: pass@k, divergences, breakdowns."""

import pytest

from unisd.evaluation.figures import figures, pass_at


def item(correct, found=True, **others):
    return {"correct": correct, "found": found, "finished": True, "parts": {}, "groups": {}, **others}


def test_pass_at_k_by_hand():
    """Four samples of two items, one and three of them right: 1 − C(3,2)/C(4,2) = 1/2, and 1 − 0 = 1."""
    found = pass_at([[1, 3]], 4, [1, 2, 4])
    assert {k: found[k]["value"] for k in found} == {"1": 0.5, "2": 0.75, "4": 1.0}
    assert found["2"]["items"] == 2
    assert found["2"]["low"] == 0.5
    assert found["2"]["high"] == 1.0


def test_pass_at_k_of_several_seeds_is_averaged_within_an_item():
    """Items (1, 3) of 4 under one seed and (0, 4) under the other: (1/4 + 0)/2 and (3/4 + 1)/2."""
    seeds = [[item(True, right=right, samples=4) for right in rights] for rights in ([1, 3], [0, 4])]
    found = figures(seeds, "accuracy", [1])["passAt"]
    assert list(found) == ["1"]
    assert (found["1"]["value"], found["1"]["low"], found["1"]["high"]) == (0.5, 0.125, 0.875)
    assert "passAt" not in figures([[item(True)]], "accuracy")


def test_extraction_rate_breakdowns_and_divergence_by_hand():
    items = [
        item(True, groups={"subject": "physics"}, parts={"name_accuracy": 1.0}, divergence=0.1),
        item(False, groups={"subject": "physics"}, parts={"name_accuracy": 0.0}, divergence=0.3),
        item(False, found=False, groups={"subject": "art"}, parts={"name_accuracy": 0.5}, divergence=0.2),
    ]
    found = figures([items], "accuracy")
    assert found["score"]["value"] == pytest.approx(1 / 3)
    assert found["found"]["value"] == pytest.approx(2 / 3)
    assert found["parts"] == {"name_accuracy": 0.5}
    assert found["groups"]["subject"] == {
        "art": {"rows": 1, "score": 0.0, "found": 0.0}, "physics": {"rows": 2, "score": 0.5, "found": 1.0}
    }  # fmt: skip
    assert found["divergence"]["value"] == pytest.approx(0.2)
    assert "score" not in figures([items], "none")


def test_breakdowns_and_divergence_of_several_seeds():
    seeds = [[item(right, groups={"subject": "art"}, divergence=value)] for right, value in ((True, 0.1), (False, 0.3))]
    found = figures(seeds, "accuracy")
    assert found["groups"]["subject"]["art"] == {"rows": 1, "score": 0.5, "found": 1.0}
    assert found["divergence"]["value"] == pytest.approx(0.2)


def test_perplexities_are_those_of_the_corpus():
    items = [item(True, goldNats=2.0, goldTokens=1), item(True, goldNats=0.0, goldTokens=3)]
    assert figures([items], "accuracy")["goldPerplexity"]["value"] == pytest.approx(2.718281828**0.5)
