"""The protocol of a teacher: weights to score with, and how they follow the student."""

from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import nn


class Teacher(Protocol):
    """Someone to learn from."""

    def weights(self) -> AbstractContextManager[nn.Module]:
        """The model to forward while its teacher weights are in force."""
        ...

    def update(self, step: int) -> None:
        """Follows the student after optimiser step `step` (1-based)."""
        ...

    def displacement(self) -> tuple[float, float] | None:
        """‖ΔW‖ of teacher and of student since step 0, or None for a teacher that never moves."""
        ...

    def state(self) -> dict[str, torch.Tensor]:
        """What a checkpoint keeps."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Takes up a checkpoint's state."""
        ...
