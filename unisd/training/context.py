"""What a training is given besides model and rows: where it writes, samples and reports, and what stops it.

Made by `unisd.train`, read by the loop and by what it saves.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unisd.config.resolve import Arm
from unisd.metrics.progress import Progress
from unisd.training.rollouts import Rollouts
from unisd.training.sampler import StepSampler
from unisd.training.stop import StopFlag

Probe = Callable[[Any, int], float]
"""From a trainer and its step to a score, for all processes together; raises StepInterrupted as `check_stop` does."""


@dataclass
class LoopContext:
    """All that surrounds the steps of one component."""

    arm: Arm
    directory: Path
    sampler: StepSampler
    rollouts: Rollouts
    progress: Progress = field(default_factory=Progress)
    stop: StopFlag = field(default_factory=StopFlag)
    probe: Probe | None = None
    probe_every: int | None = None
    log: Callable[[str], None] = lambda _line: None
    earlier: Sequence[Path] = ()
    """Directories of earlier attempts, the newest first: their checkpoints go as newer ones come."""
