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


def outermost(model: nn.Module) -> Any:
    """The module inside wrappers of DDP or DeepSpeed, adapters of PEFT and all."""
    inner: Any = model
    while hasattr(inner, "module"):
        inner = inner.module
    return inner


def causal_model(model: nn.Module) -> Any:
    """The Transformers model inside wrappers of PEFT, DDP or DeepSpeed."""
    inner = outermost(model)
    return inner.get_base_model() if hasattr(inner, "get_base_model") else inner


def freeze_unreached(model: nn.Module) -> None:
    """Keeps weights from training that no pass over text reaches, such as an image encoder's: only decay moved them."""
    core = causal_model(model)
    parts = (core.get_decoder(), core.get_output_embeddings())
    reached = {id(weight) for part in parts for weight in part.parameters()}
    for weight in model.parameters():
        if id(weight) not in reached:
            weight.requires_grad_(False)


def hidden_states(model: nn.Module, packed: Pack) -> torch.Tensor:
    """Last hidden states [N, H] at the positions that predict the completion tokens.

    They are the backbone's, and take the place of the model's output, of whose head one row only is computed: what
    goes into the loss has come out of the outermost wrapper, whose hooks shard, gather and reduce.
    """
    with _instead_of_output(model, packed.predicts_N):
        hidden_NH: torch.Tensor = model(**packed.inputs, logits_to_keep=1)
    return hidden_NH


@contextmanager
def _instead_of_output(model: nn.Module, predicts_N: torch.Tensor) -> Iterator[None]:
    found: list[torch.Tensor] = []

    def keep(_module: nn.Module, _arguments: Any, output: Any) -> None:
        found.append(output.last_hidden_state)

    def replace(_module: nn.Module, _arguments: Any, _output: Any) -> torch.Tensor:
        return found.pop()[0, predicts_N]

    handles = [
        causal_model(model).get_decoder().register_forward_hook(keep),
        outermost(model).register_forward_hook(replace, prepend=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
