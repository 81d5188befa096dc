"""Which model a run starts from, and how it is adapted."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from unisd.config.base import Config, FilePath, HubId, Name, ObjectName, PositiveInt

ADAPTED_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Names of the layers that adapters change."""


def is_path(model: str) -> bool:
    """Whether what names a model on a command line is a path: it looks like one, or is there; else it is a hub id."""
    looks = model.startswith(("/", ".", "~")) or model.endswith(".gguf") or model.count("/") > 1
    return looks or Path(model).exists()


class ClaimPath(Config):
    """A directory or file inside a read-only claim that runs share."""

    name: ObjectName
    """Name of the PersistentVolumeClaim."""
    path: FilePath
    """Path of the model inside the claim, e.g. `Qwen2.5-7B-Instruct`."""


class Lora(Config):
    """Low-rank adapters on every attention and MLP projection. No dropout: docs/differences.md."""

    rank: Annotated[int, Field(ge=1, le=1024)] = 64
    """Rank r of the adapters. Default 64."""
    alpha: PositiveInt = 128
    """Scaling numerator: ΔW = (alpha / rank)·B·A. Default 128."""


class Model(Config):
    """The base model: a hub id, a local path, or a path in a shared claim; exactly one."""

    name: HubId | None = None
    """Hub id, e.g. `Qwen/Qwen2.5-7B-Instruct`."""
    revision: Name | None = None
    """Commit, tag or branch of the hub id; what it resolves to is recorded. Default: the main branch."""
    path: FilePath | None = None
    """A model directory or a `.gguf` file; on one machine relative to the manifest, on a cluster in the claim."""
    claim: ClaimPath | None = None
    """A read-only claim that runs share, and the model's path in it (clusters only)."""
    lora: Lora = Lora()
    """Size of the adapters; unused with `training.fineTuning: full`. Default: rank 64, alpha 128."""
