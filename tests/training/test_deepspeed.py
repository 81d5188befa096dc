"""The configuration that DeepSpeed is given."""

import pytest

from unisd.config.training import Training
from unisd.training.deepspeed import deepspeed_config


@pytest.mark.parametrize(("stage", "processes"), [(0, 8), (3, 1)])
def test_what_shares_nothing_out_goes_without(stage, processes):
    assert deepspeed_config(stage, processes, Training()) is None


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_stage_and_clipping_are_the_manifests(stage):
    found = deepspeed_config(stage, 2, Training(max_grad_norm=0.5))
    assert found["zero_optimization"]["stage"] == stage
    assert found["gradient_clipping"] == 0.5


@pytest.mark.parametrize(("precision", "narrow"), [("bfloat16", True), ("float32", False)])
def test_weights_are_never_cast_and_passes_are_autocast(precision, narrow):
    found = deepspeed_config(2, 2, Training(precision=precision))
    assert "bf16" not in found
    assert found["torch_autocast"] == {"enabled": narrow, "dtype": "bfloat16", "lower_precision_safe_modules": []}
