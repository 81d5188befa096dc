"""An exponential moving average of parameters, in float32 and outside any module.

Inside a module it would be cast to the module's precision, and in bfloat16 a decay of 0.98 loses most small updates.
Every process of a training holds the same whole average; parameters that are sharded are gathered one by one.
"""

from collections.abc import Mapping

import torch
from torch import nn

from unisd.sharded import whole


class Shadow:
    """θ̄ ← β·θ̄ + (1−β)·θ for named parameters; starts as a copy of them."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self._parameters = dict(parameters)
        self._decay = decay
        self.values = {name: value.detach().float().clone() for name, value in self._parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """One step of the average."""
        for name, parameter in self._parameters.items():
            with whole([parameter]):
                self.values[name].lerp_(parameter.detach().float(), 1.0 - self._decay)

    @torch.no_grad()
    def copy_to(self, targets: Mapping[str, nn.Parameter]) -> None:
        """Writes the average into a working copy, in the copy's precision."""
        for name, target in targets.items():
            with whole([target], write=True):
                target.copy_(self.values[name])

    def restore(self, values: Mapping[str, torch.Tensor]) -> None:
        """Takes up values of a checkpoint. Raises ValueError if they belong to other parameters."""
        if values.keys() != self.values.keys():
            raise ValueError("the checkpoint's EMA teacher belongs to a model with other trainable parameters")
        for name, value in values.items():
            self.values[name].copy_(value)
