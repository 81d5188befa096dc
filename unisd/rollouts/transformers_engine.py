"""Generation inside this process, by Transformers: any model, any device, no server.

Used for sampling while training, for negatives and for evaluation. Rows leave the batch as they finish, so that a long
completion does not keep the others computing; what a row samples depends on its seed and index alone, never on the
rows beside it or on how many processes share the work. Does not load models.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from unisd.rollouts.growing_cache import growing_cache
from unisd.rollouts.types import Completion, Sampling, derived_seed


@dataclass
class _Batch:
    """Rows in flight. Legend: B rows, L cached positions."""

    indices: list[int]
    ids: list[list[int]]
    logprobs: list[list[float]]
    uniforms_BT: torch.Tensor
    attention_BL: torch.Tensor
    cache: Any

    def keep(self, rows: list[int]) -> None:
        """Drops every other row."""
        kept = torch.tensor(rows, device=self.attention_BL.device)
        self.indices = [self.indices[row] for row in rows]
        self.ids = [self.ids[row] for row in rows]
        self.logprobs = [self.logprobs[row] for row in rows]
        self.uniforms_BT = self.uniforms_BT[kept]
        self.attention_BL = self.attention_BL[kept]
        self.cache.batch_select_indices(kept)


class TransformersEngine:
    """A `RolloutEngine` over a causal language model of Transformers, plain or with adapters."""

    def __init__(
        self,
        model: nn.Module,
        stop_ids: frozenset[int],
        batch_size: int = 64,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        """Generates with `model` as it is at each call.

        Args:
            model: a causal language model; its adapters and mode are used as they are and left so.
            stop_ids: tokens that end a completion.
            batch_size: rows decoded together.
            autocast: makes the context of each batch; none by default.
        """
        if not stop_ids:
            raise ValueError("stop_ids is empty: without a stop token no completion ever ends")
        self._model: Any = model
        self._stop_ids = stop_ids
        self._batch_size = batch_size
        self._autocast = autocast

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> Iterator[Completion]:
        """Completions of all prompts, each batch in the order in which they ended; longest prompts first."""
        if any(len(prompt) == 0 for prompt in prompts):
            raise ValueError("a prompt has no tokens")
        order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
        training = self._model.training
        self._model.eval()
        try:
            for start in range(0, len(order), self._batch_size):
                # One context for all tokens of a batch: within it each weight is cast once, not once a token.
                with self._autocast():
                    found = list(self._decode(prompts, order[start : start + self._batch_size], sampling))
                yield from found
        finally:
            self._model.train(training)

    def _decode(self, prompts: Sequence[Sequence[int]], order: list[int], sampling: Sampling) -> Iterator[Completion]:
        device = next(self._model.parameters()).device
        ids_BL, attention_BL = _left_padded([prompts[index] for index in order], device)
        uniforms_BT = torch.stack([_uniforms(sampling, index) for index in order]).to(device)
        batch = _Batch(order, [[] for _ in order], [[] for _ in order], uniforms_BT, attention_BL, growing_cache())
        for position in range(sampling.max_tokens):
            logits_BV = self._forward(ids_BL, batch)
            ids_B, logprob_B = _choose(logits_BV, batch.uniforms_BT[:, position], sampling)
            tokens = ids_B.tolist()
            for row, (token, logprob) in enumerate(zip(tokens, logprob_B.tolist(), strict=True)):
                batch.ids[row].append(token)
                batch.logprobs[row].append(logprob)
            alive = [row for row, token in enumerate(tokens) if token not in self._stop_ids]
            for row in sorted(set(range(len(tokens))).difference(alive)):
                yield _completion(batch, row, finished=True)
            if not alive:
                return
            ids_BL = ids_B[:, None]
            if len(alive) < len(tokens):
                ids_BL = ids_BL[alive]
                batch.keep(alive)
            batch.attention_BL = nn.functional.pad(batch.attention_BL, (0, 1), value=1)
        for row in range(len(batch.indices)):
            yield _completion(batch, row, finished=False)

    @torch.no_grad()
    def _forward(self, ids_BL: torch.Tensor, batch: _Batch) -> torch.Tensor:
        """Logits [B, V] in float32 of the token after the last."""
        positions_BL = (batch.attention_BL.cumsum(dim=1) - 1).clamp(min=0)[:, -ids_BL.shape[1] :]
        output = self._model(
            input_ids=ids_BL,
            attention_mask=batch.attention_BL,
            position_ids=positions_BL,
            past_key_values=batch.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits_BV: torch.Tensor = output.logits[:, -1].float()
        return logits_BV


def _left_padded(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(len(prompt) for prompt in prompts)
    ids_BL = torch.zeros((len(prompts), width), dtype=torch.long)
    attention_BL = torch.zeros_like(ids_BL)
    for row, prompt in enumerate(prompts):
        ids_BL[row, width - len(prompt) :] = torch.tensor(list(prompt))
        attention_BL[row, width - len(prompt) :] = 1
    return ids_BL.to(device), attention_BL.to(device)


def _uniforms(sampling: Sampling, index: int) -> torch.Tensor:
    """The random stream of one row, [T]: a function of seed and index alone."""
    generator = torch.Generator().manual_seed(derived_seed(sampling.seed, sampling.first_index + index))
    return torch.rand(sampling.max_tokens, generator=generator, dtype=torch.float64)


def _choose(logits_BV: torch.Tensor, uniform_B: torch.Tensor, sampling: Sampling) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens [B] and their log-probabilities [B] at temperature 1; sampling inverts the cumulative distribution."""
    if sampling.temperature == 0.0:
        ids_B = logits_BV.argmax(dim=-1)
    else:
        probability_BV = _truncated((logits_BV / sampling.temperature).softmax(dim=-1), sampling)
        cumulative_BV = probability_BV.double().cumsum(dim=-1)
        threshold_B1 = (uniform_B * cumulative_BV[:, -1])[:, None]
        ids_B = torch.searchsorted(cumulative_BV, threshold_B1, right=True)[:, 0].clamp(max=logits_BV.shape[-1] - 1)
    realised_B = logits_BV.gather(1, ids_B[:, None])[:, 0]
    return ids_B, realised_B - logits_BV.logsumexp(dim=-1)


def _truncated(probability_BV: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """The distribution with everything outside of `top_k` and `top_p` at zero, not normalised again."""
    if sampling.top_k is None and sampling.top_p >= 1.0:
        return probability_BV
    count = min(sampling.top_k or probability_BV.shape[-1], probability_BV.shape[-1])
    kept_BK, ids_BK = probability_BV.topk(count, dim=-1)
    before_BK = kept_BK.cumsum(dim=-1) - kept_BK
    kept_BK = kept_BK.where(before_BK < sampling.top_p * kept_BK.sum(dim=-1, keepdim=True), 0.0)
    return torch.zeros_like(probability_BV).scatter(1, ids_BK, kept_BK)


def _completion(batch: _Batch, row: int, *, finished: bool) -> Completion:
    return Completion(batch.indices[row], tuple(batch.ids[row]), tuple(batch.logprobs[row]), finished)
