"""Perplexity at corpus level: exp(−Σ log p / Σ tokens), from hidden states, without logits of a whole batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from unisd.forward.heads import head_of
from unisd.forward.packed import Ids, hidden_states, pack, split_by_tokens
from unisd.objective.logits import realised_logp


@dataclass(frozen=True)
class Surprisal:
    """How unlikely a completion was."""

    nats: float
    """−Σ log p over its tokens."""
    tokens: int


def grouped(prompts: Sequence[Ids], completions: Sequence[Ids], max_tokens: int) -> list[list[int]]:
    """Indices of the rows of each pack, shortest rows first; a pack has at most `max_tokens` tokens."""
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]) + len(completions[index]))
    lengths = [len(prompts[index]) + len(completions[index]) for index in order]
    return [[order[position] for position in group] for group in split_by_tokens(lengths, max_tokens)]


@torch.no_grad()
def surprisals(model: Any, prompts: Sequence[Ids], completions: Sequence[Ids], max_tokens: int) -> list[Surprisal]:
    """−log p of each completion given its prompt, teacher-forced, in order; packs of at most `max_tokens`."""
    device = next(model.parameters()).device
    found: dict[int, Surprisal] = {}
    for members in grouped(prompts, completions, max_tokens):
        packed = pack([prompts[i] for i in members], [completions[i] for i in members], device)
        tokens_N = torch.tensor([token for i in members for token in completions[i]], dtype=torch.long, device=device)
        logp_N = realised_logp(hidden_states(model, packed), head_of(model), tokens_N)
        for index, part in zip(members, torch.split(logp_N, [len(completions[i]) for i in members]), strict=True):
            found[index] = Surprisal(-float(part.detach().double().sum()), len(completions[index]))
    return [found[index] for index in range(len(prompts))]
