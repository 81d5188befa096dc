"""Surprisals from packed hidden states are those of a plain forward pass."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from unisd.evaluation.perplexity import surprisals
from unisd.forward.attention import PACKED, register_packed_attention

PROMPTS = [[5, 6, 7, 8], [9, 10], [11, 12, 13, 14, 15]]
COMPLETIONS = [[20, 21], [22, 23, 24, 25], []]


@pytest.mark.parametrize("max_tokens", [5, 1000])
@pytest.mark.parametrize("attention", [PACKED, "eager"])
def test_packed_equals_plain(tiny_model, max_tokens, attention):
    register_packed_attention()
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    expected = []
    for prompt, completion in zip(PROMPTS, COMPLETIONS, strict=True):
        if not completion:
            expected.append(0.0)
            continue
        logits = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
        expected.append(-float(logits.detach().log_softmax(-1).gather(1, torch.tensor(completion)[:, None]).sum()))
    model.set_attn_implementation(attention)
    found = surprisals(model, PROMPTS, COMPLETIONS, max_tokens)
    assert [s.nats for s in found] == pytest.approx(expected, abs=1e-4)
    assert [s.tokens for s in found] == [2, 4, 0]
