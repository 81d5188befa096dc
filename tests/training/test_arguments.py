"""What the training loop is told of an arm's settings."""

import pytest

from unisd.config.model import Model
from unisd.config.resolve import resolve
from unisd.config.run import Component, RunSpec
from unisd.config.task import Task
from unisd.config.training import Training
from unisd.training.arguments import common_arguments, lora_config


def arm(**training):
    spec = RunSpec(
        model=Model(name="a/b"), task=Task(name="cos_e"), components=[Component(name="it")], seeds=[7],
        training=Training(**training),
    )  # fmt: skip
    return resolve(spec)[0]


def test_every_setting_reaches_its_argument(tmp_path):
    given = arm(
        learning_rate=3e-4, weight_decay=0.01, max_grad_norm=0.5, warmup_ratio=0.25, schedule="linear",
        per_device_batch_size=3, gradient_accumulation_steps=5, gradient_checkpointing=True, precision="bfloat16",
    )  # fmt: skip
    told = common_arguments(given, tmp_path, 40, None)
    wanted = {
        "learning_rate": 3e-4, "weight_decay": 0.01, "max_grad_norm": 0.5, "warmup_steps": 10, "seed": 7,
        "lr_scheduler_type": "linear", "per_device_train_batch_size": 15, "gradient_accumulation_steps": 1,
        "gradient_checkpointing": True, "bf16": True, "optim": "adamw_torch", "save_strategy": "no",
    }  # fmt: skip
    assert {name: told[name] for name in wanted} == wanted


@pytest.mark.parametrize(("precision", "deepspeed", "narrow"), [("float32", None, False), ("bfloat16", {}, False)])
def test_weights_are_narrow_only_without_deepspeed(tmp_path, precision, deepspeed, narrow):
    assert common_arguments(arm(precision=precision), tmp_path, 1, deepspeed)["bf16"] is narrow


def test_a_constant_rate_warms_up_too(tmp_path):
    told = common_arguments(arm(schedule="constant"), tmp_path, 10, None)
    assert told["lr_scheduler_type"] == "constant_with_warmup"


def test_adapters_have_no_dropout_and_full_fine_tuning_has_none():
    config = lora_config(arm(), 8, 16)
    assert (config.r, config.lora_alpha, config.lora_dropout, config.bias) == (8, 16, 0.0, "none")
    assert config.target_modules == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert lora_config(arm(fine_tuning="full"), 8, 16) is None
