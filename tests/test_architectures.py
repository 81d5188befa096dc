"""Every architecture that is promised, in a small size: trains a step, generates, and stops at its own stop tokens."""

import json
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma3TextConfig, InternLM3Config, LlamaConfig, Qwen2Config

from unisd.chat import prompt_ids
from unisd.files import read_jsonl
from unisd.forward.attention import PACKED, register_packed_attention
from unisd.forward.packed import hidden_states, pack
from unisd.models import load_model, load_tokenizer, stop_ids
from unisd.rollouts.transformers_engine import TransformersEngine
from unisd.rollouts.types import Sampling

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 4096,
    "initializer_range": 0.2,
}
GEMMA = {"sliding_window": 32, "layer_types": ["sliding_attention", "full_attention"], "query_pre_attn_scalar": 16}
FAMILIES = {
    "qwen2": (Qwen2Config, {"tie_word_embeddings": True}),
    "llama": (LlamaConfig, {"rope_theta": 500000.0}),
    "gemma3": (Gemma3TextConfig, GEMMA),
    "internlm3": (InternLM3Config, {}),
}


@pytest.fixture(scope="module", params=FAMILIES)
def directory(request, tiny_model, tmp_path_factory):
    """A model of the family with random weights, and the tiny model's tokenizer."""
    config, more = FAMILIES[request.param]
    target = tmp_path_factory.mktemp("family") / request.param
    shutil.copytree(tiny_model, target, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    tokenizer = load_tokenizer(tiny_model)
    torch.manual_seed(0)
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    config = config(vocab_size=len(tokenizer), **SIZES, **ids, **more)
    AutoModelForCausalLM.from_config(config).save_pretrained(target)
    return target


def test_it_stops_at_the_tokens_that_its_generation_config_names(directory, tmp_path):
    tokenizer = load_tokenizer(directory)
    prompt = prompt_ids(tokenizer, [{"role": "user", "content": "Where is a temple?"}])
    model = load_model(directory, "float32")
    free = next(TransformersEngine(model, stop_ids(tokenizer, directory)).generate([prompt], Sampling(0.0, 12)))
    wanted = next(token for token in free.ids if token not in stop_ids(tokenizer, directory))
    own = tmp_path / "own"
    shutil.copytree(directory, own)
    (own / "generation_config.json").write_text(json.dumps({"eos_token_id": [tokenizer.eos_token_id, wanted]}))
    found = next(TransformersEngine(model, stop_ids(tokenizer, own)).generate([prompt], Sampling(0.0, 12)))
    assert found.finished
    assert found.ids == free.ids[: free.ids.index(wanted) + 1]


def test_packed_rows_see_what_they_see_alone(directory):
    """Rows of different lengths, one longer than any attention window."""
    register_packed_attention()
    model = load_model(directory, "float32")
    model.set_attn_implementation(PACKED)
    prompts, completions = [list(range(5, 9)), list(range(5, 75))], [[3, 4, 5], [6, 7]]
    with torch.no_grad():
        together = hidden_states(model, pack(prompts, completions, torch.device("cpu")))
        alone = [
            hidden_states(model, pack([prompt], [completion], torch.device("cpu")))
            for prompt, completion in zip(prompts, completions, strict=True)
        ]
        model.set_attn_implementation("eager")
        plain = [
            model.model(torch.tensor([[*prompt, *completion]])).last_hidden_state[0, len(prompt) - 1 : -1]
            for prompt, completion in zip(prompts, completions, strict=True)
        ]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(together, torch.cat(plain), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("fine_tuning", ["lora", "full"])
def test_it_trains_a_step_and_leaves_what_can_be_loaded(directory, fine_tuning, make_run, carry_out):
    run, place = make_run(
        4,
        2,
        training={"fineTuning": fine_tuning, "maxSteps": 1},
        components=[{"name": "star", "preset": "unisd_star", "contrastive": {"weight": 0.1}}],
        evaluation={"perplexity": True},
    )
    model = run.spec.model.model_copy(update={"path": str(directory)})
    run = run.model_copy(update={"spec": run.spec.model_copy(update={"model": model})})
    carry_out(run, place, "prepare", "contexts", "train", "evaluate")
    step = read_jsonl(place.train("star-1") / "metrics.jsonl")[0]
    assert step["grad_norm"] > 0
    assert step["rows"] > 0
    items = read_jsonl(place.evaluate("star-1") / "items-cos_e.jsonl")
    assert len(items) == 2
    assert all(item["goldNats"] > 0 for item in items)
