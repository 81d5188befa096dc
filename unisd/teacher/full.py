"""Teachers of a student that trains all its weights: a second model, frozen or following.

Full fine-tuning moves the base itself, so the teacher needs a copy of its own, kept in evaluation mode.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from unisd.config.objective import Ema
from unisd.sharded import whole
from unisd.teacher.shadow import Shadow


class FullTeacher:
    """A copy of the model; with EMA it follows the student, without it stays the base."""

    def __init__(self, student: nn.Module, copy: nn.Module, ema: Ema | None) -> None:
        """Takes over `copy`, which must hold the student's weights of step 0."""
        self._copy, self._ema = copy.eval().requires_grad_(False), ema
        self._student = dict(student.named_parameters())
        self._targets = dict(copy.named_parameters())
        self._shadow = Shadow(self._student, ema.decay) if ema else None
        self._initial = {name: value.detach().clone() for name, value in self._student.items()} if ema else {}

    @contextmanager
    def weights(self) -> Iterator[nn.Module]:
        yield self._copy

    def update(self, step: int) -> None:
        if self._shadow is not None and self._ema is not None and step % self._ema.every_steps == 0:
            self._shadow.update()
            self._shadow.copy_to(self._targets)

    @torch.no_grad()
    def displacement(self) -> tuple[float, float] | None:
        if self._shadow is None:
            return None
        return self._distance(self._shadow.values), self._distance(self._student)

    def _distance(self, weights: Any) -> float:
        total = 0.0
        for name, start in self._initial.items():
            with whole([weights[name]]):
                total += float((weights[name].float() - start.float()).square().sum())
        return float(total**0.5)

    def state(self) -> dict[str, torch.Tensor]:
        return self._shadow.values if self._shadow is not None else {}

    def restore(self, state: dict[str, Any]) -> None:
        if self._shadow is not None:
            self._shadow.restore(state)
            self._shadow.copy_to(self._targets)
