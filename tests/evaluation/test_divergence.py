"""The divergence to the base is that of full distributions, with adapters and with a model of its own."""

from contextlib import nullcontext

import pytest
import torch
from transformers import AutoModelForCausalLM

from unisd.evaluation.divergence import divergences
from unisd.forward.attention import PACKED, register_packed_attention

PROMPTS = [[5, 6, 7, 8], [9, 10], [11, 12]]
COMPLETIONS = [[20, 21], [22, 23, 24, 25], []]


@pytest.fixture
def models(tiny_model):
    register_packed_attention()
    base, trained = (AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32) for _ in range(2))
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return trained, base


def by_hand(trained, base, prompt, completion):
    p, s = (
        model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1].detach().double().softmax(-1)
        for model in (base, trained)
    )
    m = (p + s) / 2
    return float(((p * (p / m).log()).sum(-1) / 2 + (s * (s / m).log()).sum(-1) / 2).mean())


@pytest.mark.parametrize("max_tokens", [5, 1000])
def test_it_is_the_mean_over_tokens_of_full_distributions(models, max_tokens):
    trained, base = models
    expected = [
        by_hand(trained, base, *PROMPTS[:1], *COMPLETIONS[:1]),
        by_hand(trained, base, PROMPTS[1], COMPLETIONS[1]),
    ]
    assert min(expected) > 1e-4
    for model in models:
        model.set_attn_implementation(PACKED)
    found = divergences(lambda: nullcontext(trained), lambda: nullcontext(base), PROMPTS, COMPLETIONS, max_tokens)
    assert found == [*[pytest.approx(value, rel=1e-3) for value in expected], 0.0]
    same = divergences(lambda: nullcontext(base), lambda: nullcontext(base), PROMPTS, COMPLETIONS, max_tokens)
    assert same == pytest.approx([0.0, 0.0, 0.0], abs=1e-7)
