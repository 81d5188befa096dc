"""The in-process engine gives what Transformers' own generation gives, and what a row samples is its own affair."""

import pytest
import torch
from transformers import AutoModelForCausalLM, TopKLogitsWarper, TopPLogitsWarper

from unisd.rollouts.transformers_engine import TransformersEngine, _truncated
from unisd.rollouts.types import Sampling

PROMPTS = [[5, 6, 7, 8], [9, 10], [11, 12, 13, 14, 15, 16, 17], [20]]


@pytest.fixture(scope="module")
def model(tiny_model):
    return AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)


def generate(model, prompts, sampling, stop=frozenset({2}), **engine):
    found = TransformersEngine(model, stop, **engine).generate(prompts, sampling)
    return sorted(found, key=lambda completion: completion.index)


def test_greedy_is_what_transformers_generates(model):
    for completion, prompt in zip(generate(model, PROMPTS, Sampling(0.0, 12)), PROMPTS, strict=True):
        expected = model.generate(
            torch.tensor([prompt]), max_new_tokens=12, do_sample=False, eos_token_id=2, pad_token_id=0
        )
        assert list(completion.ids) == expected[0, len(prompt) :].tolist()


def test_log_probabilities_are_at_temperature_one(model):
    completion = generate(model, PROMPTS[:1], Sampling(0.7, 8, seed=3))[0]
    logits = model(torch.tensor([[*PROMPTS[0], *completion.ids]])).logits[0, len(PROMPTS[0]) - 1 : -1]
    expected = logits.log_softmax(-1).gather(1, torch.tensor(completion.ids)[:, None])[:, 0]
    torch.testing.assert_close(torch.tensor(completion.logprobs), expected.detach(), atol=1e-4, rtol=1e-4)


def test_a_row_samples_the_same_in_any_company(model):
    together = generate(model, PROMPTS, Sampling(1.0, 10, seed=1))
    in_pairs = generate(model, PROMPTS, Sampling(1.0, 10, seed=1), batch_size=2)
    shifted = generate(model, PROMPTS[2:], Sampling(1.0, 10, seed=1, first_index=2))
    assert [c.ids for c in together] == [c.ids for c in in_pairs]
    assert [c.ids for c in together[2:]] == [c.ids for c in shifted]
    assert [c.ids for c in together] != [c.ids for c in generate(model, PROMPTS, Sampling(1.0, 10, seed=2))]


def test_temperature_moves_the_samples(model):
    def mean_logprob(temperature):
        found = generate(model, PROMPTS * 8, Sampling(temperature, 16, seed=5))
        return sum(sum(c.logprobs) for c in found) / sum(len(c.ids) for c in found)

    assert mean_logprob(0.2) > mean_logprob(0.7) > mean_logprob(2.0)


def test_rows_end_at_stop_tokens_and_are_yielded_as_they_end(model):
    first = generate(model, PROMPTS, Sampling(0.0, 12))
    stop = frozenset({first[0].ids[3]})
    found = list(TransformersEngine(model, stop).generate(PROMPTS, Sampling(0.0, 12)))
    by_index = {completion.index: completion for completion in found}
    assert by_index[0].finished
    assert by_index[0].ids[-1] in stop
    for completion in found:
        assert completion.finished == (completion.ids[-1] in stop)
        assert len(completion.ids) == 12 or completion.finished
    lengths = [len(completion.ids) for completion in found]
    assert lengths == sorted(lengths)


def test_the_models_mode_is_left_as_it_was(model):
    model.train()
    generate(model, PROMPTS, Sampling(0.0, 2))
    assert model.training
    model.eval()


def test_bad_requests(model):
    with pytest.raises(ValueError, match="stop_ids is empty"):
        TransformersEngine(model, frozenset())
    with pytest.raises(ValueError, match="a prompt has no tokens"):
        generate(model, [[1], []], Sampling(0.0, 2))


@pytest.mark.parametrize(("top_p", "top_k"), [(0.8, None), (1.0, 5), (0.7, 20), (0.01, None)])
def test_truncation_keeps_what_transformers_keeps(top_p, top_k):
    logits_BV = torch.randn(6, 50, generator=torch.Generator().manual_seed(0)) * 3
    sampling = Sampling(1.5, 4, top_p=top_p, top_k=top_k)
    warped_BV = logits_BV / 1.5
    if top_k is not None:
        warped_BV = TopKLogitsWarper(top_k)(None, warped_BV)
    if top_p < 1.0:
        warped_BV = TopPLogitsWarper(top_p)(None, warped_BV)
    expected_BV = warped_BV.softmax(-1)
    found_BV = _truncated((logits_BV / 1.5).softmax(-1), sampling)
    torch.testing.assert_close(found_BV / found_BV.sum(-1, keepdim=True), expected_BV)


def test_truncated_samples_are_likely_tokens(model):
    for completion, prompt in zip(generate(model, PROMPTS, Sampling(2.0, 12, top_k=3)), PROMPTS, strict=True):
        logits = model(torch.tensor([[*prompt, *completion.ids]])).logits[0, len(prompt) - 1 : -1]
        likeliest = logits.topk(3).indices.tolist()
        assert all(token in found for token, found in zip(completion.ids, likeliest, strict=True))
    only = generate(model, PROMPTS, Sampling(2.0, 12, top_k=1))
    assert [c.ids for c in only] == [c.ids for c in generate(model, PROMPTS, Sampling(0.0, 12))]
