"""Progress of a stage: how far it is, how long it will take, and its newest metrics.

Written by every stage, read by the local runner's table and served by the trainer as `/progress`; field names are those
of Kubeflow's KEP-2779.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from unisd.files import write_json


class Progress:
    """The newest state of one stage, kept in memory and, if a path is given, in a file."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._started: tuple[int, float] | None = None
        self.policy: tuple[int, int] | None = None
        """Versions of the policy: the trainer's, and the one of the rollout server farthest behind."""
        self._checkpoint: dict[str, Any] | None = None
        self.snapshot: dict[str, Any] = {}
        self.follow: Callable[[int, Mapping[str, float]], None] | None = None
        """Called with each step and its metrics: where they go besides."""

    def checkpointed(self, step: int, path: Path) -> None:
        """Records the newest complete checkpoint, and says so at once: a training that is stopped has no next step."""
        self._checkpoint = {"step": step, "time": _now(), "path": str(path.absolute())}
        if self.snapshot:
            self._tell({**self.snapshot, "checkpoint": self._checkpoint})

    def update(self, step: int, total: int, metrics: Mapping[str, float] | None = None) -> None:
        """Records that `step` of `total` steps are done, with the metrics of the newest one."""
        if self.follow is not None:
            self.follow(step, metrics or {})
        now = time.monotonic()
        if self._started is None:
            self._started = (step, now)
        first, begun = self._started
        done = step - first
        remaining = (now - begun) / done * (total - step) if done > 0 else None
        snapshot = {
            "step": step,
            "totalSteps": total,
            "progressPercentage": round(100 * step / total) if total else 100,
            "estimatedRemainingSeconds": None if remaining is None else round(remaining),
            "metrics": dict(metrics or {}),
            **self._policy_version(),
            **({"checkpoint": self._checkpoint} if self._checkpoint else {}),
            "lastUpdatedTime": _now(),
        }
        self._tell(snapshot)

    def _tell(self, snapshot: dict[str, Any]) -> None:
        self.snapshot = snapshot
        if self._path is not None:
            write_json(self._path, snapshot)

    def parts(self, total: int) -> "Parts":
        """For work of several parts that are `total` together."""
        return Parts(self, total)

    def _policy_version(self) -> dict[str, Any]:
        if self.policy is None:
            return {}
        trainer, rollout = self.policy
        return {"policyVersion": {"trainer": trainer, "rollout": rollout}}


@dataclass
class Parts:
    """Progress over several parts of one stage, each of which counts from 0."""

    progress: Progress
    total: int
    done: int = 0

    def more(self) -> Callable[[int], None]:
        """How the next part tells what it has done."""
        before = self.done

        def tell(count: int) -> None:
            self.done = before + count
            self.progress.update(min(self.done, self.total), self.total)

        return tell

    def end(self) -> None:
        """Everything is done, however much a part had to do."""
        self.progress.update(self.total, self.total)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
