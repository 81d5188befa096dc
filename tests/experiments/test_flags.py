"""The research code's flags: every one names a field that the manifest has, with a value that it takes."""

import pytest

from unisd.config.load import parse_run
from unisd.experiments.flags import BY_NAME, FLAGS, spellings
from unisd.experiments.plan import Experiment, manifests

# The flags that users of the research code know (its README), each with a value as one would type it.
KNOWN = {
    "num_auxiliary_contexts": 5,
    "gamma_agreement": 0.1,
    "agreement_stat": "var",
    "ref_model_sync_steps": 10,
    "ref_model_mixup_beta": 0.9,
    "contrastive_weight": 0.2,
    "contrastive_margin": 0.4,
    "final_layer_distill_weight": 0.01,
    "alpha": 0.3,
    "token_clip": 0.2,
    "per_device_train_batch_size": 2,
    "num_demos": 5,
}
OTHERS = {
    "fewshot_method": "random",
    "agreement_scale": "quantile",
    "token_clip_quantile": 0.9,
    "learning_rate": 1e-5,
    "num_train_epochs": 2,
    "max_steps": 7,
    "gradient_accumulation_steps": 2,
    "warmup_ratio": 0.2,
    "weight_decay": 0.1,
    "temperature": 0.9,
    "max_prompt_length": 512,
    "max_completion_length": 64,
    "lora_r": 8,
    "lora_alpha": 16,
    "fine_tuning": "full",
    "precision": "float32",
    "layout": "turns",
    "retriever": "bm25",
    "max_train_examples": 10,
    "max_eval_examples": 11,
}


def field_of(spec, path):
    value = spec.components[0] if path.startswith("component.") else spec
    for part in path.split(".")[1:]:
        value = value.model_dump(by_alias=True)[part] if not isinstance(value, dict) else value[part]
    return value


@pytest.mark.parametrize(("name", "value"), [*KNOWN.items(), *OTHERS.items()])
def test_a_flag_sets_its_field(name, value):
    (manifest,) = manifests(Experiment("x", ["agreement_tok_random"], ["cos_e"], grid={name: [value]}))
    found = field_of(parse_run(manifest).spec, BY_NAME[name].field)
    assert found == ("variance" if name == "agreement_stat" else value)


def test_no_flag_is_left_out():
    assert set(BY_NAME) == {*KNOWN, *OTHERS}
    every = [spelling for flag in FLAGS for spelling in flag.spellings]
    assert len(set(every)) == len(every)


def test_both_spellings():
    assert spellings("gamma_agreement") == ("--gamma_agreement", "--gamma-agreement")
    assert spellings("alpha") == ("--alpha",)
