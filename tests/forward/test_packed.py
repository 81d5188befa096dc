"""Weights that no pass over text reaches do not train."""

import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Gemma3Config

from unisd.config.model import ADAPTED_LAYERS
from unisd.forward.packed import freeze_unreached

TEXT = {
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
}
IMAGES = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 8,
}


def trained(model, adapters):
    """Names of what would train, and of what does."""
    if adapters:
        model = get_peft_model(model, LoraConfig(r=2, target_modules=list(ADAPTED_LAYERS)))
    before = {name for name, weight in model.named_parameters() if weight.requires_grad}
    freeze_unreached(model)
    return before, {name for name, weight in model.named_parameters() if weight.requires_grad}


@pytest.mark.parametrize("adapters", [True, False])
def test_a_text_model_trains_whole(tiny_model, adapters):
    before, after = trained(AutoModelForCausalLM.from_pretrained(tiny_model), adapters)
    assert after == before


@pytest.mark.parametrize("adapters", [True, False])
def test_an_image_encoder_does_not(adapters):
    config = Gemma3Config(text_config=TEXT, vision_config=IMAGES, mm_tokens_per_image=4)
    before, after = trained(AutoModelForCausalLM.from_config(config), adapters)
    frozen = before - after
    assert frozen
    assert all("vision_tower" in name or "multi_modal_projector" in name for name in frozen)
    assert not any("vision_tower" in name for name in after)
    assert any("language_model" in name for name in after)
