"""Packed forward passes: prompts and completions in, the hidden states that predict the completions out.

Called by the trainer and by perplexity; knows nothing of losses. Legend: L tokens of a pack, N completion tokens of a
pack, H hidden dimensions.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import nn

Ids = Sequence[int]


@dataclass(frozen=True)
class Pack:
    """Several sequences in one row, with where each completion token is predicted."""

    inputs: dict[str, Any]
    """Keyword arguments of the model: ids and positions [1, L], cumulative lengths."""
    predicts_N: torch.Tensor
    """Position in the pack whose hidden state predicts each completion token."""

    @property
    def tokens(self) -> int:
        """Tokens of the pack."""
        return int(self.inputs["input_ids"].shape[1])


def pack(prompts: Sequence[Ids], completions: Sequence[Ids], device: torch.device) -> Pack:
    """One pack of all sequences, in order. Completion tokens are in order too, sequence by sequence."""
    ids: list[int] = []
    positions: list[int] = []
    predicts: list[int] = []
    bounds = [0]
    for prompt, completion in zip(prompts, completions, strict=True):
        start = len(ids)
        ids += [*prompt, *completion]
        positions += range(len(ids) - start)
        predicts += range(start + len(prompt) - 1, len(ids) - 1)
        bounds.append(len(ids))
    longest = max(end - start for start, end in pairwise(bounds))
    cu_seqlens = torch.tensor(bounds, dtype=torch.int32, device=device)
    inputs = {
        "input_ids": torch.tensor([ids], device=device),
        "position_ids": torch.tensor([positions], device=device),
        "cu_seq_lens_q": cu_seqlens,
        "cu_seq_lens_k": cu_seqlens,
        "max_length_q": longest,
        "max_length_k": longest,
        "use_cache": False,
    }
    return Pack(inputs, torch.tensor(predicts, dtype=torch.long, device=device))


def split_by_tokens(lengths: Sequence[int], limit: int) -> list[range]:
    """Consecutive groups of sequences with at most `limit` tokens each; a longer one stands alone."""
    groups: list[range] = []
    start, total = 0, 0
    for index, length in enumerate(lengths):
        if index > start and total + length > limit:
            groups.append(range(start, index))
            start, total = index, 0
        total += length
    if lengths:
        groups.append(range(start, len(lengths)))
    return groups


def causal_model(model: nn.Module) -> Any:
    """The Transformers model inside wrappers of PEFT, DDP or DeepSpeed."""
    inner: Any = model
    while hasattr(inner, "module"):
        inner = inner.module
    return inner.get_base_model() if hasattr(inner, "get_base_model") else inner


def hidden_states(model: nn.Module, packed: Pack) -> torch.Tensor:
    """Last hidden states [N, H] at the positions that predict the completion tokens.

    Goes through the outermost wrapper, whose hooks shard and gather, and takes the backbone's output on its way to
    the head, of which one row only is computed.
    """
    with _captured(causal_model(model).get_decoder()) as found:
        model(**packed.inputs, logits_to_keep=1)
    hidden_1LH: torch.Tensor = found[0]
    return hidden_1LH[0, packed.predicts_N]


@contextmanager
def _captured(backbone: nn.Module) -> Iterator[list[torch.Tensor]]:
    found: list[torch.Tensor] = []

    def keep(_module: nn.Module, _arguments: Any, output: Any) -> None:
        found.append(output.last_hidden_state)

    handle = backbone.register_forward_hook(keep)
    try:
        yield found
    finally:
        handle.remove()
