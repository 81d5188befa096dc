"""Teachers of a student that trains LoRA adapters: the same module with other adapters in force, no second copy.

Switching sets which adapter the layers apply and never touches `requires_grad`, as PEFT's own `set_adapter` does: the
optimiser must not notice that somebody else was scoring.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from unisd.config.objective import Ema
from unisd.sharded import whole
from unisd.teacher.shadow import Shadow

STUDENT = "default"
TEACHER = "teacher"


@contextmanager
def adapter_in_force(model: nn.Module, name: str | None) -> Iterator[nn.Module]:
    """Applies one adapter, or none, for the time of the context."""
    layers: list[Any] = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    before = [(layer._active_adapter, layer._disable_adapters) for layer in layers]
    for layer in layers:
        layer._active_adapter = [name or STUDENT]
        layer._disable_adapters = name is None
    try:
        yield model
    finally:
        for layer, (active, disabled) in zip(layers, before, strict=True):
            layer._active_adapter, layer._disable_adapters = active, disabled


class BaseTeacher:
    """The frozen base model: the student's module with its adapters off."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    @contextmanager
    def weights(self) -> Iterator[nn.Module]:
        with adapter_in_force(self._model, None) as model:
            yield model

    def update(self, step: int) -> None:
        """Never moves."""

    def displacement(self) -> None:
        """Never moves."""

    def state(self) -> dict[str, torch.Tensor]:
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Has nothing to restore."""


class EmaAdapterTeacher:
    """A second adapter that follows the student's: factors A and B are averaged separately.

    It starts as a copy of the student's adapter, whose B is zero, so that its ΔW is exactly 0 at step 0. The average
    of factors is not the average of their products; docs/differences.md says how far they lie apart.
    """

    def __init__(self, model: Any, ema: Ema) -> None:
        self._model, self._ema = model, ema
        model.add_adapter(TEACHER, model.peft_config[STUDENT])
        self._working = _factors(model, TEACHER)
        for parameter in self._working.values():
            parameter.requires_grad_(False)
        self._student = _factors(model, STUDENT)
        self._shadow = Shadow(self._student, ema.decay)
        self._shadow.copy_to(self._working)

    @contextmanager
    def weights(self) -> Iterator[nn.Module]:
        with adapter_in_force(self._model, TEACHER) as model:
            yield model

    def update(self, step: int) -> None:
        if step % self._ema.every_steps == 0:
            self._shadow.update()
            self._shadow.copy_to(self._working)

    def displacement(self) -> tuple[float, float]:
        with whole(self._student.values()):
            return _product_norm(self._shadow.values), _product_norm(self._student)

    def state(self) -> dict[str, torch.Tensor]:
        return self._shadow.values

    def restore(self, state: dict[str, Any]) -> None:
        self._shadow.restore(state)
        self._shadow.copy_to(self._working)


def _factors(model: nn.Module, adapter: str) -> dict[str, nn.Parameter]:
    """Parameters of one adapter, by names that are the same for every adapter."""
    mark = f".{adapter}."
    return {name.replace(mark, "."): value for name, value in model.named_parameters() if mark in name}


@torch.no_grad()
def _product_norm(factors: Any) -> float:
    """‖B·A‖ over all adapted matrices, from the small Gram matrices: ‖BA‖² = ⟨BᵀB, AAᵀ⟩. Scaling is left out."""
    total = 0.0
    for name, a_RI in factors.items():
        if "lora_A" not in name:
            continue
        b_OR = factors[name.replace("lora_A", "lora_B")].float()
        total += float(((b_OR.T @ b_OR) * (a_RI.float() @ a_RI.float().T)).sum().clamp(min=0.0))
    return float(total**0.5)
