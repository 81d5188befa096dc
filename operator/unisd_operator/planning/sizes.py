"""How much memory, storage and GPU a pod gets where the run does not say: a table by model size.

docs/operator/sizing.md shows it. Pure; called by the builders of pods and claims.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unisd.config.cluster import Resources
from unisd.config.run import RunSpec
from unisd.config.serving import HELD_ADAPTERS


@dataclass(frozen=True)
class Size:
    """Defaults for models of up to so many billion parameters."""

    billions: float
    trainer: int
    """Memory of one training process, GiB."""
    rollout: int
    """Memory of one rollout server, GiB."""
    stage: int
    """Memory of preparation and of evaluation, GiB."""
    shm: int
    """/dev/shm of trainer and rollout pods, GiB."""
    shared: int
    """Claim: model, data and caches, GiB."""
    arm: int
    """Claim: checkpoints of each component with LoRA, GiB."""
    arm_full: int
    """Claim: checkpoints of each component with full fine-tuning, GiB."""
    adapter: int
    """An adapter of rank 64 in bfloat16, MiB."""


SIZES = (
    Size(1, trainer=12, rollout=12, stage=8, shm=4, shared=30, arm=5, arm_full=60, adapter=80),
    Size(4, trainer=20, rollout=20, stage=12, shm=8, shared=60, arm=5, arm_full=220, adapter=230),
    Size(9, trainer=40, rollout=40, stage=24, shm=16, shared=100, arm=10, arm_full=480, adapter=310),
    Size(16, trainer=64, rollout=64, stage=40, shm=16, shared=150, arm=15, arm_full=860, adapter=530),
    Size(36, trainer=128, rollout=96, stage=80, shm=32, shared=300, arm=30, arm_full=2000, adapter=1030),
    Size(80, trainer=256, rollout=192, stage=160, shm=64, shared=600, arm=50, arm_full=4300, adapter=1610),
)
UNKNOWN_BILLIONS = 8.0
"""Assumed where the model's name does not tell its size."""
_BILLIONS = re.compile(r"(?<![A-Za-z0-9.])(?:(\d+)x)?(\d+(?:\.\d+)?)([BbMm])(?![A-Za-z0-9])")


def billions(spec: RunSpec) -> float:
    """Parameters of the run's model in billions, as its name or path tells: `Qwen/Qwen2.5-7B-Instruct` has 7.

    Mixtures count whole (`8x7B` is 56); what is active in them (`30B-A3B`) does not count.
    """
    model = spec.model
    told = model.name or model.path or (model.claim.path if model.claim else "")
    match = _BILLIONS.search(told.rpartition("/")[2]) or _BILLIONS.search(told)
    if match is None:
        return UNKNOWN_BILLIONS
    experts, number, unit = match.groups()
    return float(number) * int(experts or 1) / (1000 if unit in "Mm" else 1)


def size(spec: RunSpec) -> Size:
    """The row of the table for the run's model; larger models than the table knows get its last row."""
    parameters = billions(spec)
    return next((row for row in SIZES if parameters <= row.billions), SIZES[-1])


def claim_size(spec: RunSpec) -> str:
    """Size of a run's claim: what all share, and checkpoints of every component at every seed."""
    row = size(spec)
    each = row.arm_full if spec.training.fine_tuning == "full" else row.arm
    return f"{row.shared + each * len(spec.components) * len(spec.seeds)}Gi"


def adapters_mib(spec: RunSpec) -> int:
    """Memory for the adapters of one rollout server, MiB: those held, the one that arrives, and one in passing."""
    each = size(spec).adapter * spec.model.lora.rank / 64
    return max(64, round(each * (HELD_ADAPTERS + 2)))


def resources(given: Resources | None, requests: Mapping[str, str], gpus: Mapping[str, int]) -> dict[str, Any]:
    """Requests and limits of a container: what the run says, and defaults for what it leaves open.

    Args:
        given: the run's own.
        requests: default requests; one falls away where the run gives its request or limit.
        gpus: GPUs by resource name; they fall away where the run names any extended resource itself.
    """
    own_requests = dict(given.requests or {}) if given else {}
    own_limits = dict(given.limits or {}) if given else {}
    own = {**own_requests, **own_limits}
    defaults = {name: value for name, value in requests.items() if name not in own}
    extended = any("/" in name for name in own)
    limits = {**({} if extended else {name: str(count) for name, count in gpus.items()}), **own_limits}
    found = {"requests": {**defaults, **own_requests}, "limits": limits}
    return {name: values for name, values in found.items() if values}
