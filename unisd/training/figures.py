"""What a step of self-distillation tells of itself: signs of collapse, means of its terms, and what each mechanism did.

Called by the trainer, once a step. Every method is a collective call: figures are of the rows of all processes. Names
and units: `metrics.names`. Changes nothing. Legend: N completion tokens of a step on this process.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from unisd.config.resolve import Objective
from unisd.objective.agreement import effective_share
from unisd.objective.reduction import Denominators, Masks
from unisd.objective.types import Loss, Squares
from unisd.rollouts.types import Completion
from unisd.training.loop import Metrics
from unisd.training.signs import leaks, repetition
from unisd.training.together import gather


def unmasked(losses: Sequence[Loss], name: str, mask_N: torch.Tensor) -> torch.Tensor:
    """One of a loss's per-token values, e.g. `divergence_N`, of the tokens that count."""
    values_N = torch.cat([getattr(loss, name) for loss in losses]) if losses else mask_N
    return values_N[mask_N > 0]


@dataclass(frozen=True)
class Figures:
    """The figures of one training's steps."""

    accelerator: Any
    objective: Objective

    def signs(
        self, completions: Sequence[Completion], texts: Sequence[str], instructions: frozenset[tuple[object, ...]]
    ) -> Metrics:
        """Signs of collapse over all completions of the step, cut ones included."""
        return self._means(
            {
                "completion_tokens": [float(len(completion.ids)) for completion in completions],
                "truncated_share": [float(not completion.finished) for completion in completions],
                "leak_share": [float(leaks(text, instructions)) for text in texts],
                "repetition": [repetition(completion.ids) for completion in completions],
            }
        )

    def terms(self, losses: Sequence[Loss], masks: Masks, total: Denominators, bound: float | None) -> Metrics:
        """Means of the loss's terms over the unmasked tokens of the whole step; `bound` is the clip's in force."""

        def of(name: str) -> torch.Tensor:
            return unmasked(losses, name, masks.mask_N)

        objective, wanted = self.objective, {"entropy": of("entropy_N")}
        if not (objective.features and objective.features.alone):
            wanted["divergence"] = of("divergence_N")
        if objective.contrastive:
            hinge = of("hinge_N")[(masks.negative_R[masks.row_N] > 0)[masks.mask_N > 0]]
            wanted |= {"contrastive_loss": hinge, "contrastive_active_share": (hinge > 0).float()}
        if objective.features:
            wanted["features_distance"] = of("distance_N")
        if objective.clip:
            wanted["clip_share"] = (of("divergence_N") >= (math.inf if bound is None else bound)).float()
        metrics = self._means({name: values.tolist() for name, values in wanted.items()})
        if objective.contrastive and total.rows:
            metrics["contrastive_rows_share"] = total.negative_rows / total.rows
        if objective.clip and bound is not None:
            metrics["clip_bound"] = bound
        return metrics

    def difference(self, completions: Sequence[Completion], losses: Sequence[Loss], mask_N: torch.Tensor) -> Metrics:
        """How far the engine's log-probabilities of its tokens lie from the student's own; none on references."""
        sampled = [value for completion in completions for value in completion.logprobs]
        own = [value for loss in losses for value in loss.student_logp_N.tolist()] if sampled else []
        pairs = zip(sampled, own, mask_N.tolist(), strict=True) if sampled else ()
        return self._means({"logp_difference": [abs(a - b) for a, b, kept in pairs if kept]})

    def shares(self, losses: Sequence[Loss]) -> Metrics:
        """What each mechanism contributes to the gradient at the student's last hidden state."""
        mine = sum((loss.squares for loss in losses), Squares()).values()
        parts = gather(self.accelerator, [list(mine)])
        squares = Squares(*(sum(part[0][index] for part in parts) for index in range(len(mine))))
        norms = [value**0.5 for value in (squares.divergence, squares.contrastive, squares.features)]
        whole = sum(norms) or 1.0
        found: Metrics = {}
        if self.objective.contrastive:
            found["share_contrastive"] = norms[1] / whole
        if self.objective.features:
            found["share_features"] = norms[2] / whole
        if self.objective.agreement and squares.weights_off:
            found["share_agreement"] = (squares.weights_changed / squares.weights_off) ** 0.5
        if self.objective.clip and squares.clip_off:
            found["share_clip"] = (squares.clip_changed / squares.clip_off) ** 0.5
        return found

    def agreement(self, masks: Masks, disagreement_N: torch.Tensor | None, scored: Sequence[bool]) -> Metrics:
        """Weights, the disagreement behind them, and how many rows had theirs scored; nothing without agreement."""
        if self.objective.agreement is None:
            return {}
        kept = masks.weight_N[masks.mask_N > 0].tolist()
        weights = torch.tensor([value for part in gather(self.accelerator, kept) for value in part])
        found = [] if disagreement_N is None else disagreement_N.tolist()
        metrics = self._means({"agreement_disagreement": found, "agreement_scored_share": [float(s) for s in scored]})
        if weights.numel():
            metrics["agreement_weight"] = float(weights.mean())
            metrics["agreement_weight_min"] = float(weights.min())
            metrics["agreement_effective_share"] = effective_share(weights)
        return metrics

    def _means(self, values: dict[str, list[float]]) -> Metrics:
        """Means over the values of all processes; absent where there are none."""
        means = {}
        for name, mine in values.items():
            everyone = [value for part in gather(self.accelerator, mine) for value in part]
            if everyone:
                means[name] = sum(everyone) / len(everyone)
        return means
