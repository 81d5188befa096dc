"""A policy on its way from the trainer to rollout servers: one LoRA adapter as one safetensors file.

The adapter's PEFT configuration travels in the file's own metadata, so that a version is one body with one digest.
Used by the policy agent beside each server, without torch; `rollouts.adapter` packs what it reads.
"""

import json
import re
import struct
from pathlib import Path
from typing import Any

CONFIG_KEY = "adapter_config"
_LONGEST_HEADER = 16 << 20
_COMPONENT = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")
# What vLLM reads of a PEFT configuration; anything else a sender might add is left behind.
FIELDS = ("peft_type", "task_type", "r", "lora_alpha", "target_modules", "bias", "use_rslora", "use_dora")


class PolicyError(ValueError):
    """A body that is no policy; the message says why."""


def served_name(component: str, version: int) -> str:
    """The name under which a server offers one version; a name is never used for other weights."""
    return f"{component}-v{version}"


def version_in(name: str) -> tuple[str, int] | None:
    """Component and version of a served name; None for another one, such as the base model's."""
    component, mark, version = name.rpartition("-v")
    return (component, int(version)) if mark and version.isdecimal() else None


def check_component(component: str) -> None:
    """Raises PolicyError for a name that is not that of a component with its seed, e.g. `star-1`."""
    if not _COMPONENT.fullmatch(component):
        raise PolicyError(f"component {component!r} is not a DNS label of at most 40 characters")


def read_config(path: Path) -> dict[str, Any]:
    """The PEFT configuration in a policy file, as vLLM may read it.

    Raises:
        PolicyError: not a safetensors file, or one without an adapter's configuration.
    """
    metadata = _header(path).get("__metadata__")
    told = metadata.get(CONFIG_KEY) if isinstance(metadata, dict) else None
    if not isinstance(told, str):
        raise PolicyError(f"the safetensors metadata lack {CONFIG_KEY}: the adapter's PEFT configuration as JSON")
    config = _object(told, CONFIG_KEY)
    if type(config.get("r")) is not int:
        raise PolicyError(f"{CONFIG_KEY} is no LoRA configuration: it has no rank r")
    return {name: config[name] for name in FIELDS if name in config}


def _header(path: Path) -> dict[str, Any]:
    """The JSON at the front of a safetensors file: length (8 bytes, little endian), then names, shapes, offsets."""
    with path.open("rb") as file:
        prefix = file.read(8)
        if len(prefix) < 8:
            raise PolicyError("the body is shorter than a safetensors header")
        (length,) = struct.unpack("<Q", prefix)
        if length > _LONGEST_HEADER:
            raise PolicyError(f"the safetensors header claims {length} bytes, more than {_LONGEST_HEADER}")
        header = _object(file.read(length), "the safetensors header")
    size = path.stat().st_size - 8 - length
    try:
        end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
    except (TypeError, KeyError, IndexError):
        raise PolicyError("the safetensors header does not say where each tensor lies") from None
    if end != size:
        raise PolicyError(f"the body holds {size} bytes of tensors, its header says {end}")
    return header


def _object(text: str | bytes, what: str) -> dict[str, Any]:
    try:
        told = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PolicyError(f"{what} is not JSON: {error}") from None
    if not isinstance(told, dict):
        raise PolicyError(f"{what} is no object")
    return told
