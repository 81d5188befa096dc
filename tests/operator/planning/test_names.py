import re

import pytest
from unisd_operator.planning import names


def test_names_read_like_what_they_name() -> None:
    assert names.child("qwen-scienceqa", "star-1", "train", 1) == "qwen-scienceqa-star-1-train-1"
    assert names.child("qwen-scienceqa", None, "prepare", 2) == "qwen-scienceqa-prepare-2"
    assert names.claim("qwen-scienceqa") == "qwen-scienceqa"


@pytest.mark.parametrize("run", ["a", "7b", "x" * 40, "exp-a-b-c", "9" * 40])
@pytest.mark.parametrize("arm", [None, "star-1", "c" * 20 + "-2147483647", "a-b-1"])
@pytest.mark.parametrize("part", ["train", "contexts-rollout", "policy"])
@pytest.mark.parametrize("attempt", [1, 1000])
def test_every_name_is_a_dns_label_that_a_service_may_have(run: str, arm: str | None, part: str, attempt: int) -> None:
    name = names.child(run, arm, part, attempt)
    assert len(name) <= names.MAX_LENGTH
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)
    assert name.endswith(f"-{part}-{attempt}")
    assert name == names.child(run, arm, part, attempt)


def test_children_of_two_runs_never_share_a_name() -> None:
    runs = ["a", "a-b", "a-b-c", "a-b-1", "a-b-c-1", "7", "r7", "a" * 40, "a" * 38 + "-b"]
    arms = [None, "b-1", "c-1", "b-c-1", "b-1-1", "c-1-1", "a-b-1", "b" * 20 + "-1"]
    parts = {None: ["prepare", "contexts", "contexts-rollout", "contexts-policy", "report", "prepare-config"]}
    every = [
        names.child(run, arm, part, attempt)
        for run in runs
        for arm in arms
        for part in parts.get(arm, ["train", "rollout", "policy", "evaluate", "results", "config", "queue"])
        for attempt in (1, 11)
    ]
    assert len(set(every)) == len(every)


def test_names_of_any_length_are_values_of_labels_and_stay_apart() -> None:
    assert names.as_label("my.claim") == "my.claim"
    long = ["a" * 54 + "." + "b" * length for length in (8, 9, 190, 198)]
    values = [names.as_label(name) for name in long]
    assert values[0] == long[0]
    assert len(set(values)) == len(values)
    assert all(re.fullmatch(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?", value) for value in values)
