"""What is asked of vLLM, and what is read out of its answers."""

import pytest

from unisd.rollouts.completions import generated, generation, scored, scoring
from unisd.rollouts.policy import served_name, version_in
from unisd.rollouts.types import Completion, Sampling


def test_sampling_is_the_requests_own_word():
    body = generation([1, 2], Sampling(0.7, 8, top_p=0.9), frozenset({7, 5}))
    assert (body["prompt"], body["max_tokens"], body["stop_token_ids"]) == ([1, 2], 8, [5, 7])
    assert (body["temperature"], body["top_p"], body["top_k"]) == (0.7, 0.9, -1)
    assert "seed" not in body


@pytest.mark.parametrize(("last", "finished"), [(7, True), (6, False)])
def test_a_completion_is_finished_by_a_stop_token_alone(last, finished):
    answer = {"choices": [{"token_ids": [3, last], "logprobs": {"token_logprobs": [-0.5, -0.25]}}]}
    assert generated(4, answer, frozenset({7})) == Completion(4, (3, last), (-0.5, -0.25), finished)


def test_surprisal_is_a_mean_so_that_long_completions_are_not_more_surprising():
    short, long = Completion(0, (1,), (-2.0,), True), Completion(1, (1, 2, 3, 4), (-1.0, -1.0, -1.0, -1.0), True)
    assert (short.surprisal, long.surprisal) == (2.0, 1.0)


def test_given_tokens_are_scored_from_their_first_place_on():
    ids = [9, 8, 7]
    assert scoring(ids)["prompt"] == ids
    told = [None, {"8": {"logprob": -1.0}, "3": {"logprob": -0.1}}, {"7": {"logprob": -2.0}}]
    assert scored({"choices": [{"prompt_logprobs": told}]}, ids, 1) == [-1.0, -2.0]


@pytest.mark.parametrize("component", ["star-1", "a-v1"])
def test_a_served_name_tells_component_and_version(component):
    assert version_in(served_name(component, 12)) == (component, 12)


@pytest.mark.parametrize("name", ["base", "star-1", "star-vx"])
def test_other_names_tell_none(name):
    assert version_in(name) is None
