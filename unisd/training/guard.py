"""Bounds on the signs of collapse, averaged over a window of steps. Pure but for its own window."""

from collections import deque
from collections.abc import Mapping
from typing import Any

from unisd.config.training import Guard

_WATCHED = ("truncated_share", "leak_share", "repetition", "entropy")


class GuardWindow:
    """The newest steps of one training, and which bounds their averages break."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._steps: deque[dict[str, float]] = deque(maxlen=guard.window)

    def add(self, metrics: Mapping[str, float]) -> list[str]:
        """Takes in a step; returns a sentence for each bound that a full window breaks."""
        self._steps.append({name: metrics[name] for name in _WATCHED if name in metrics})
        if len(self._steps) < self._guard.window:
            return []
        bounds = {
            "truncated_share": self._guard.max_truncated_share,
            "leak_share": self._guard.max_leak_share,
            "repetition": self._guard.max_repetition,
        }
        broken = [
            f"{name} {mean:.3f} is above {bound} over {self._guard.window} steps"
            for name, bound in bounds.items()
            if (mean := self._mean(name)) is not None and mean > bound
        ]
        entropy = self._mean("entropy")
        if entropy is not None and entropy < self._guard.min_entropy:
            broken.append(f"entropy {entropy:.3f} nats is below {self._guard.min_entropy}")
        return broken

    def _mean(self, name: str) -> float | None:
        values = [step[name] for step in self._steps if name in step]
        return sum(values) / len(values) if values else None

    def state(self) -> list[dict[str, float]]:
        """What a checkpoint keeps."""
        return list(self._steps)

    def restore(self, state: Any) -> None:
        """Takes up the window of a checkpoint."""
        self._steps.extend(state)
