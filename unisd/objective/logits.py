"""Logits from hidden states, in tiles of tokens and vocabulary, so that no [N, V] tensor ever exists.

The vocabulary is cut into slices; logits of a slice are computed anew at each visit, unless one slice holds the whole
vocabulary. Scoring and evaluation call `realised_logp`, the loss of `fused` the rest.

Legend: N tokens, n tokens of a tile, V vocabulary, v vocabulary of a slice, H hidden dimensions.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from unisd.objective.terms import NARROW, wide
from unisd.objective.types import Head


@dataclass(frozen=True)
class Tiles:
    """How much to hold at once."""

    elements: int = 2**26
    """Logits of one tile of tokens; in float32, four bytes each."""
    vocabulary: int = 2**18
    """Longest slice of the vocabulary."""

    def tokens(self, vocabulary: int) -> int:
        """Tokens of a tile."""
        return max(16, self.elements // min(vocabulary, self.vocabulary))


DEFAULT_TILES = Tiles()
# 16 MiB a tile: the allocator reuses such blocks, larger ones it takes from the system page by page, 1.6 times slower.
CPU_TILES = Tiles(elements=2**22)


class Logits:
    """Logits of one tile of tokens, slice by slice of the vocabulary."""

    def __init__(self, hidden_nH: torch.Tensor, head: Head, tiles: Tiles) -> None:
        self._hidden_nH, self._head, self._width = hidden_nH.detach(), head, tiles.vocabulary
        self._whole: torch.Tensor | None = None

    def slices(self) -> Iterator[tuple[slice, torch.Tensor]]:
        """Every slice of the vocabulary with its logits [n, v] in float32 or wider."""
        vocabulary = self._head.weight_VH.shape[0]
        for start in range(0, vocabulary, self._width):
            where = slice(start, min(start + self._width, vocabulary))
            yield where, self.at(where)

    def at(self, where: slice) -> torch.Tensor:
        """Logits [n, v] of one slice; kept if it is the whole vocabulary."""
        if self._whole is not None:
            return self._whole
        logits_nv = self._compute(where)
        if where.stop - where.start == self._head.weight_VH.shape[0]:
            self._whole = logits_nv
        return logits_nv

    def _compute(self, where: slice) -> torch.Tensor:
        weight_vH = self._head.weight_VH[where].to(self._hidden_nH.dtype)
        logits_nv = product(self._hidden_nH, weight_vH.T)
        cap = self._head.softcap
        return logits_nv if cap is None else cap * torch.tanh(logits_nv / cap)

    def log_sum_exp(self, temperature: float) -> torch.Tensor:
        """log Σ exp(z/τ), [n]."""
        parts = []
        for _, logits_nv in self.slices():
            peak_n = logits_nv.amax(dim=-1) / temperature
            parts.append(peak_n + log_softmax(logits_nv, peak_n, temperature).exp_().sum(dim=-1).log())
        return torch.stack(parts).logsumexp(dim=0)

    def realised(self, token_n: torch.Tensor) -> torch.Tensor:
        """The logit of each token, [n]."""
        found_n = wide(self._hidden_nH.new_zeros(token_n.shape))
        for where, logits_nv in self.slices():
            inside_n, local_n = in_slice(token_n, where)
            found_n = torch.where(inside_n, logits_nv.gather(1, local_n[:, None])[:, 0], found_n)
        return found_n


def product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """A matrix product in float32 or wider. CUDA does not round its sums to the narrow type of the factors; on a CPU
    the rounding costs less than a product of wide factors, which takes three times as long where bfloat16 is native."""
    if left.dtype in NARROW and left.is_cuda:
        return torch.mm(left, right, out_dtype=torch.float32)
    return wide(left @ right)


def tiles_for(hidden_NH: torch.Tensor) -> Tiles:
    """Tiles of a size that suits the device."""
    return CPU_TILES if hidden_NH.device.type == "cpu" else DEFAULT_TILES


def log_softmax(logits_nv: torch.Tensor, lse_n: torch.Tensor, temperature: float) -> torch.Tensor:
    """z/τ − lse in one pass over memory, [n, v]."""
    return torch.add(-lse_n[:, None], logits_nv, alpha=1.0 / temperature)


def in_slice(token_n: torch.Tensor, where: slice) -> tuple[torch.Tensor, torch.Tensor]:
    """Whether each token lies in a slice, [n], and its place in it, [n]; any place for those outside."""
    inside_n = (token_n >= where.start) & (token_n < where.stop)
    return inside_n, (token_n - where.start).clamp(0, where.stop - where.start - 1)


@torch.no_grad()
def realised_logp(
    hidden_NH: torch.Tensor, head: Head, token_N: torch.Tensor, tiles: Tiles | None = None
) -> torch.Tensor:
    """log π of each token at τ = 1, [N], nats."""
    tiles = tiles or tiles_for(hidden_NH)
    size = tiles.tokens(head.weight_VH.shape[0])
    parts = [wide(hidden_NH.new_zeros(0))]
    for start in range(0, hidden_NH.shape[0], size):
        logits = Logits(hidden_NH[start : start + size], head, tiles)
        parts.append(logits.realised(token_N[start : start + size]) - logits.log_sum_exp(1.0))
    return torch.cat(parts)
