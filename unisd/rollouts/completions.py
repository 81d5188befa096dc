"""vLLM's `/v1/completions` as rollouts use it: token ids in, token ids and log-probabilities at temperature 1 out.

Requests and answers as plain data. Pure; called by `vllm_engine`, which sends them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from unisd.rollouts.types import Completion, Sampling


def generation(prompt: Sequence[int], sampling: Sampling, stop_ids: frozenset[int]) -> dict[str, Any]:
    """A request for one completion.

    Without a seed: what vLLM computes depends on what else is in its batch, so a seed could not make it repeat itself;
    it would cost a kernel per request and token, and ends the server on a CPU (a prompt that comes in parts there).
    """
    return {
        "prompt": list(prompt),
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k or -1,
        "stop_token_ids": sorted(stop_ids),
        "ignore_eos": True,
        "logprobs": 0,
        "return_token_ids": True,
        "skip_special_tokens": False,
        "spaces_between_special_tokens": False,
        **_held_to(sampling.schema),
    }


def _held_to(schema: Mapping[str, Any] | None) -> dict[str, Any]:
    """What holds decoding to a JSON Schema."""
    if schema is None:
        return {}
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "text", "schema": schema}}}


def generated(index: int, answer: dict[str, Any], stop_ids: frozenset[int]) -> Completion:
    """The completion in the answer to a `generation`."""
    choice = answer["choices"][0]
    ids = tuple(choice["token_ids"])
    logprobs = tuple(choice["logprobs"]["token_logprobs"])
    assert len(ids) == len(logprobs), "vLLM gives a log-probability for each token"
    return Completion(index, ids, logprobs, finished=bool(ids) and ids[-1] in stop_ids)


def scoring(ids: Sequence[int]) -> dict[str, Any]:
    """A request for the log-probabilities of given tokens; the one token after them a server cannot but generate."""
    return {"prompt": list(ids), "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}


def scored(answer: dict[str, Any], ids: Sequence[int], first: int) -> list[float]:
    """The log-probabilities in the answer to a `scoring` of `ids`, from place `first` on."""
    told = answer["choices"][0]["prompt_logprobs"]
    return [told[place][str(ids[place])]["logprob"] for place in range(first, len(ids))]
