"""Scoring in packs against a plain forward pass of each context: everything stands where it belongs."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from unisd.forward.attention import PACKED, register_packed_attention
from unisd.forward.heads import head_of
from unisd.training.rows import Row
from unisd.training.score import Passes, score

ROWS = [
    Row("a", [1], [5, 6, 7], [[8, 9], [10, 11, 12]], [13, 14], []),
    Row("b", [1], [15, 16], [[17], [18, 19]], None, []),
]
COMPLETIONS = [[30, 31, 32], [33, 34]]


@pytest.fixture
def model(tiny_model):
    register_packed_attention()
    found = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    found.set_attn_implementation(PACKED)
    return found


def plain(model, prompt, completion):
    output = model(torch.tensor([[*prompt, *completion]]), output_hidden_states=True)
    logp = output.logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    return output.hidden_states[-1][0, len(prompt) - 1 : -1], logp.gather(1, torch.tensor(completion)[:, None])[:, 0]


@pytest.mark.parametrize("most", [4, 1000])
def test_every_value_is_that_of_its_row_and_context(model, most):
    asked = []
    passes = Passes(most, lambda needed: asked.append(needed) or needed + 1, filler=3)
    with torch.no_grad():
        found = score(model, head_of(model), ROWS, COMPLETIONS, scored_rows=[True, False], passes=passes)
        first, second = plain(model, [5, 6, 7], COMPLETIONS[0]), plain(model, [15, 16], COMPLETIONS[1])
        contexts = [plain(model, prompt, COMPLETIONS[0])[1] for prompt in ROWS[0].contexts]
        negative = plain(model, [13, 14], COMPLETIONS[0])[1]
    close = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(found.hidden_NH, torch.cat([first[0], second[0]]), **close)
    torch.testing.assert_close(found.logp_N, torch.cat([first[1], second[1]]), **close)
    unscored = torch.zeros(2)
    torch.testing.assert_close(found.negative_logp_N, torch.cat([negative, unscored]), **close)
    torch.testing.assert_close(
        found.context_logp_KN, torch.stack([torch.cat([c, unscored]) for c in contexts]), **close
    )
    assert found.tokens == 6 + 5 + 6 + 5 + 4 + 1, "every context that was asked for, and a filler for the last pass"
    assert asked == [5 if most == 4 else 1]
