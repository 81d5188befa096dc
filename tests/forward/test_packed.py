"""Which weights a pass over text reaches."""

import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Gemma3Config

from unisd.config.model import ADAPTED_LAYERS
from unisd.forward.packed import reaches_all

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


@pytest.mark.parametrize("adapters", [True, False])
def test_a_text_model_is_reached_whole(tiny_model, adapters):
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    if adapters:
        model = get_peft_model(model, LoraConfig(r=2, target_modules=list(ADAPTED_LAYERS)))
    assert reaches_all(model)


@pytest.mark.parametrize("adapters", [True, False])
def test_an_image_encoder_is_not(adapters):
    model = AutoModelForCausalLM.from_config(
        Gemma3Config(text_config=TEXT, vision_config=IMAGES, mm_tokens_per_image=4)
    )
    if adapters:
        model = get_peft_model(model, LoraConfig(r=2, target_modules=list(ADAPTED_LAYERS)))
    assert not reaches_all(model)
    model.requires_grad_(False)
    assert reaches_all(model)
