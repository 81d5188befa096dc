"""How far a trained model's distributions lie from its base's: token-level Jensen-Shannon divergence, teacher-forced.

D_t = ½ KL(P‖M) + ½ KL(S‖M) with M = ½ P + ½ S over the whole vocabulary at temperature 1, in nats, at most ln 2; the
mean over the tokens of each completion. From hidden states, in tiles: no [N, V] tensor ever exists.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch

from unisd.config.objective import Divergence
from unisd.config.resolve import Objective
from unisd.evaluation.perplexity import grouped
from unisd.forward.heads import head_of
from unisd.forward.packed import Ids, Pack, hidden_states, pack
from unisd.objective.fused import self_distillation_loss
from unisd.objective.types import Coefficients, Head, Tokens

_HALF = Objective(temperature=1.0, divergence=Divergence(alpha=0.5))
InForce = Callable[[], AbstractContextManager[Any]]


@torch.no_grad()
def divergences(
    trained: InForce, base: InForce, prompts: Sequence[Ids], completions: Sequence[Ids], max_tokens: int
) -> list[float]:
    """The mean divergence of each completion, in order; 0 for an empty one. Packs have at most `max_tokens` tokens.

    Args:
        trained: puts the trained weights in force.
        base: puts the base's in force.
        prompts: token ids.
        completions: token ids, one for each prompt.
        max_tokens: bound of one pass.
    """
    found: dict[int, float] = {}
    for members in grouped(prompts, completions, max_tokens):
        chosen = [completions[index] for index in members]
        with trained() as model:
            packed = pack([prompts[index] for index in members], chosen, next(model.parameters()).device)
            ours = _states(model, packed)
        with base() as model:
            theirs = _states(model, packed)
        parts = torch.split(_per_token(ours, theirs, chosen), [len(ids) for ids in chosen])
        for index, part_n in zip(members, parts, strict=True):
            found[index] = max(0.0, float(part_n.double().mean())) if part_n.numel() else 0.0
    return [found[index] for index in range(len(prompts))]


def _states(model: Any, packed: Pack) -> tuple[torch.Tensor, Head]:
    return hidden_states(model, packed), head_of(model)


def _per_token(
    ours: tuple[torch.Tensor, Head], theirs: tuple[torch.Tensor, Head], completions: Sequence[Ids]
) -> torch.Tensor:
    """D of every token, [N]: what the objective calls the divergence, with nothing to learn from it."""
    hidden_NH, head = ours
    token_N = torch.tensor([token for ids in completions for token in ids], dtype=torch.long, device=hidden_NH.device)
    nothing_N = hidden_NH.new_zeros(token_N.shape, dtype=torch.float32)
    tokens = Tokens(hidden_NH, head, *theirs, token_N)
    return self_distillation_loss(tokens, _HALF, Coefficients(*[nothing_N] * 4)).divergence_N
