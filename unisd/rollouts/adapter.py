"""An adapter packed to travel as a policy (`rollouts.policy`). Called by whoever holds one: trainer and evaluation."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from unisd.config.choices import Precision
from unisd.rollouts.policy import CONFIG_KEY, FIELDS

_SAFETENSORS_NAMES: dict[Precision, str] = {"bfloat16": "BF16", "float32": "F32"}


def policy_body(tensors: Mapping[str, Any], config: Mapping[str, Any], precision: Precision) -> memoryview:
    """An adapter as it travels; the same adapter gives the same bytes, whoever sends it.

    Written in place, each tensor rounded and copied once: `safetensors.torch.save` copies all of it three times, which
    is most of a push. What comes from a GPU goes to pinned memory, which PyTorch keeps for the next version.

    Args:
        tensors: the adapter's weights by PEFT's names.
        config: its PEFT configuration.
        precision: that in which the server computes: it would round to it anyway, and the way there is shorter.
    """
    told = {name: sorted(value) if isinstance(value, set | list) else value for name, value in config.items()}
    metadata = {CONFIG_KEY: json.dumps({name: told[name] for name in FIELDS if name in told})}
    values, dtype = dict(sorted(tensors.items())), getattr(torch, precision)
    sizes = [value.numel() for value in values.values()]
    header = _header(values, metadata, precision)
    pinned = any(value.is_cuda for value in values.values())
    body = torch.empty(len(header) + sum(sizes) * dtype.itemsize, dtype=torch.uint8, pin_memory=pinned)
    body[: len(header)] = torch.frombuffer(bytearray(header), dtype=torch.uint8)
    places = torch.split(body[len(header) :].view(dtype), sizes)
    for place, value in zip(places, values.values(), strict=True):
        place.copy_(value.detach().reshape(-1))
    return body.numpy().data


def _header(values: Mapping[str, Any], metadata: Mapping[str, str], precision: Precision) -> bytes:
    """The front of a safetensors file: the length of its JSON, and that, filled up so that values stand aligned."""
    entries: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, value in values.items():
        start, end = end, end + value.numel() * getattr(torch, precision).itemsize
        entries[name] = {
            "dtype": _SAFETENSORS_NAMES[precision],
            "shape": list(value.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def policy_of(adapter: Path, precision: Precision) -> memoryview:
    """The same of an adapter in a PEFT directory."""
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    return policy_body(load_file(adapter / "adapter_model.safetensors"), config, precision)
