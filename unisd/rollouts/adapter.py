"""An adapter packed to travel as a policy (`rollouts.policy`). Called by whoever holds one: trainer and evaluation."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save

from unisd.rollouts.policy import CONFIG_KEY, FIELDS


def policy_body(
    tensors: Mapping[str, Any], config: Mapping[str, Any], precision: Literal["bfloat16", "float32"]
) -> bytes:
    """An adapter as it travels; the same adapter gives the same bytes, whoever sends it.

    Args:
        tensors: the adapter's weights by PEFT's names.
        config: its PEFT configuration.
        precision: that in which the server computes: it would round to it anyway, and the way there is shorter.
    """
    told = {name: sorted(value) if isinstance(value, set | list) else value for name, value in config.items()}
    metadata = {CONFIG_KEY: json.dumps({name: told[name] for name in FIELDS if name in told})}
    rounded = {
        name: value.detach().to("cpu", getattr(torch, precision)).contiguous() for name, value in tensors.items()
    }
    return bytes(save(rounded, metadata=metadata))


def policy_of(adapter: Path, precision: Literal["bfloat16", "float32"]) -> bytes:
    """The same of an adapter in a PEFT directory."""
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    return policy_body(load_file(adapter / "adapter_model.safetensors"), config, precision)
