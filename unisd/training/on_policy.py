"""Which steps learn on the student's own completions, and what the others learn on (GKD, arXiv 2306.13649, Alg. 1)."""

import random
from collections.abc import Sequence

from unisd.config.resolve import Arm
from unisd.rollouts.types import Completion
from unisd.training.rows import Row


def learns_on_samples(arm: Arm, step: int) -> bool:
    """Whether a step is on-policy: with probability λ = `sampling.onPolicy`, a function of training seed and step."""
    return random.Random(f"{arm.seed}/{step}/on-policy").random() < arm.sampling.on_policy


def references(rows: Sequence[Row], max_tokens: int) -> list[Completion]:
    """The rows' reference demonstrations as completions, cut at the limit; they have no log-probability of sampling."""
    return [
        Completion(index, tuple(row.reference[:max_tokens]), (), finished=len(row.reference) <= max_tokens)
        for index, row in enumerate(rows)
    ]
