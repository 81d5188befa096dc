"""A key-value cache that grows without copying itself at every token.

Transformers' dynamic cache concatenates, which for a small model costs more than the model does. Called by the
in-process engine only.
"""

from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer


class _GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values [B, heads, L, dim] as views into buffers with room to spare, made larger when full."""

    key_buffer: torch.Tensor
    value_buffer: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        length = self.get_seq_length()
        wanted = length + key_states.shape[-2]
        if length == 0 or wanted > self.key_buffer.shape[-2]:
            self.key_buffer = self._grown(key_states, self.keys if length else None, wanted)
            self.value_buffer = self._grown(value_states, self.values if length else None, wanted)
        self.key_buffer[:, :, length:wanted] = key_states
        self.value_buffer[:, :, length:wanted] = value_states
        self.keys, self.values = self.key_buffer[:, :, :wanted], self.value_buffer[:, :, :wanted]
        self.is_initialized = True
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keeps the given rows."""
        length = self.get_seq_length()
        self.key_buffer, self.value_buffer = self.key_buffer[indices], self.value_buffer[indices]
        self.keys, self.values = self.key_buffer[:, :, :length], self.value_buffer[:, :, :length]

    @staticmethod
    def _grown(new: torch.Tensor, old: torch.Tensor | None, wanted: int) -> torch.Tensor:
        room = wanted + max(64, wanted // 2)
        buffer = new.new_empty((*new.shape[:-2], room, new.shape[-1]))
        if old is not None:
            buffer[:, :, : old.shape[-2]] = old
        return buffer


def growing_cache() -> Any:
    """A new, empty cache for one batch."""
    return Cache(layer_class_to_replicate=_GrowingLayer)
