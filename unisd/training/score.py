"""The second phase of a step: every teacher pass over the sampled completions, without gradients.

Primary context, auxiliary contexts and the negative context of all rows are packed together; of the primary one the
hidden states are kept, of the others one log-probability per token. Legend: N completion tokens of the step on this
process, K auxiliary contexts, H hidden dimensions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from unisd.forward.packed import Ids, causal_model, hidden_states, pack, split_by_tokens
from unisd.objective.logits import realised_logp
from unisd.sharded import whole
from unisd.training.rows import Row


@dataclass(frozen=True)
class Scored:
    """What the teachers say of the step's completions."""

    hidden_NH: torch.Tensor
    """Last hidden states of the primary teacher."""
    logp_N: torch.Tensor
    """Its log-probability of each token, τ = 1."""
    negative_logp_N: torch.Tensor
    """The same under the negative context; 0 where a row has none."""
    context_logp_KN: torch.Tensor
    """The same under each auxiliary context; 0 where a row was not scored. K may be 0."""
    tokens: int
    """Tokens that were forwarded."""


@dataclass(frozen=True)
class Passes:
    """Forward passes of one process among others, which all make the same number of them."""

    max_tokens: int
    """Largest pack."""
    agreed: Callable[[int], int]
    """From the passes that this process needs to those that all make."""
    filler: int
    """A token to forward where there is nothing left."""


@dataclass(frozen=True)
class _Request:
    """One sequence to forward."""

    kind: Literal["primary", "context", "negative"]
    row: int
    context: int
    prompt: Ids


def score(
    model: nn.Module,
    head: Any,
    rows: Sequence[Row],
    completions: Sequence[Ids],
    *,
    scored_rows: Sequence[bool],
    passes: Passes,
) -> Scored:
    """Forwards every context of every row under the weights that are in force in `model`.

    Args:
        model: the teacher, inside its `weights()` context.
        head: its output layer, as the objective takes it.
        rows: the step's rows on this process.
        completions: their token ids.
        scored_rows: rows whose auxiliary contexts are wanted (the gate).
        passes: how large they are, and how many.
    """
    requests = _requests(rows, scored_rows)
    lengths = [len(completion) for completion in completions]
    starts = [sum(lengths[:row]) for row in range(len(rows))]
    device = next(model.parameters()).device
    out = _empty(model, max((len(row.contexts) for row in rows), default=0), sum(lengths), device)
    tokens = 0
    groups = split_by_tokens([len(r.prompt) + lengths[r.row] for r in requests], passes.max_tokens)
    for turn in range(passes.agreed(len(groups))):
        members = [requests[index] for index in groups[turn]] if turn < len(groups) else []
        prompts = [r.prompt for r in members] or [[passes.filler]]
        packed = pack(prompts, [completions[r.row] for r in members] or [[]], device)
        tokens += packed.tokens
        hidden_MH = hidden_states(model, packed)
        realised = [token for r in members for token in completions[r.row]]
        with whole([head.weight_VH]):
            logp_M = realised_logp(hidden_MH, head, torch.tensor(realised, dtype=torch.long, device=device))
        for request, hidden, logp in zip(
            members, _split(hidden_MH, members, lengths), _split(logp_M, members, lengths), strict=True
        ):
            _place(out, request, slice(starts[request.row], starts[request.row] + lengths[request.row]), hidden, logp)
    return Scored(**out, tokens=tokens)


def _requests(rows: Sequence[Row], scored_rows: Sequence[bool]) -> list[_Request]:
    requests = []
    for index, row in enumerate(rows):
        requests.append(_Request("primary", index, 0, row.teacher))
        if scored_rows[index]:
            requests += [_Request("context", index, k, prompt) for k, prompt in enumerate(row.contexts)]
        if row.negative is not None:
            requests.append(_Request("negative", index, 0, row.negative))
    return requests


def _empty(model: nn.Module, contexts: int, tokens: int, device: torch.device) -> dict[str, torch.Tensor]:
    core = causal_model(model)
    width = core.config.get_text_config().hidden_size
    return {
        "hidden_NH": torch.empty(tokens, width, dtype=core.dtype, device=device),
        "logp_N": torch.zeros(tokens, device=device),
        "negative_logp_N": torch.zeros(tokens, device=device),
        "context_logp_KN": torch.zeros(contexts, tokens, device=device),
    }


def _split(values: torch.Tensor, members: Sequence[_Request], lengths: Sequence[int]) -> tuple[torch.Tensor, ...]:
    return torch.split(values, [lengths[request.row] for request in members])


def _place(
    out: dict[str, torch.Tensor], request: _Request, where: slice, hidden: torch.Tensor, logp: torch.Tensor
) -> None:
    match request.kind:
        case "primary":
            out["hidden_NH"][where] = hidden
            out["logp_N"][where] = logp
        case "context":
            out["context_logp_KN"][request.context, where] = logp
        case "negative":
            out["negative_logp_N"][where] = logp
