"""Where a run keeps what: every file of its directory, and the folders as paths.

run.json, lock               the manifest, local paths absolute; the process of the local runner that is at work here
prepared/                    train.jsonl, pool.jsonl (donors), probe.jsonl, eval-TASK.jsonl, neighbours-SOURCE.json,
                             prepared.json, model (link to the model's directory: what rollout servers load)
contexts/                    negatives.jsonl, instructions-D.jsonl, samples-ARM.jsonl, contexts.json
components/ARM/train/        checkpoint-N/, best/, adapter/, metrics.jsonl, probes.jsonl, result.json,
                             memory.json (one of several processes ran out of it: how often to halve passes)
components/ARM/evaluate/     items-TASK.jsonl, evaluation.json
report/                      report.json, report.html, report.md with scores-TASK.svg
stages/NAME/                 log.txt, progress.json, started.json (hash), done.json (hash, seconds, of), failure.json,
                             endpoint.json (of a training: where its metrics are served)

In a cluster a component may be tried more than once. Attempt N writes below components/ARM/N (train/, evaluate/, and
stages/train, stages/evaluate in place of stages/NAME) and never into what another attempt wrote.
"""

from pathlib import Path

CARD = "README.md"
"""The model card, beside weights."""


class PreparedDir:
    """Paths inside prepared/, which the first stage writes and every other reads."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.train = root / "train.jsonl"
        self.pool = root / "pool.jsonl"
        self.probe = root / "probe.jsonl"
        self.record = root / "prepared.json"
        self.model = root / "model"

    def evaluation(self, task: str) -> Path:
        """The rows that a task is scored on."""
        return self.root / f"eval-{task}.jsonl"

    def neighbours(self, source: str) -> Path:
        """The donors of every example, for one source of auxiliary contexts."""
        return self.root / f"neighbours-{source}.json"


class RunDir:
    """Paths inside one run's directory.

    Args:
        root: the directory.
        attempt: the number of the attempt that writes; None on one machine, where there are no attempts.
    """

    def __init__(self, root: Path, attempt: int | None = None) -> None:
        self.root, self.attempt = root, attempt

    @property
    def manifest(self) -> Path:
        return self.root / "run.json"

    @property
    def prepared(self) -> PreparedDir:
        return PreparedDir(self.root / "prepared")

    @property
    def contexts(self) -> Path:
        return self.root / "contexts"

    @property
    def report(self) -> Path:
        return self.root / "report"

    # -- of this attempt, to write to

    def train(self, arm: str) -> Path:
        return self._own(arm) / "train"

    def evaluate(self, arm: str) -> Path:
        return self._own(arm) / "evaluate"

    def stage(self, name: str) -> Path:
        """The record of a stage, e.g. `train/star-1`."""
        kind, _, arm = name.partition("/")
        return self._record(self._own(arm) if arm else None, kind, arm)

    # -- of all attempts, to read

    def earlier(self, arm: str) -> list[Path]:
        """Training directories of the attempts before this one, the newest first."""
        if self.attempt is None:
            return []
        return [
            place / "train" for place in self._places(arm) if place.name.isdigit() and int(place.name) < self.attempt
        ]

    def trained(self, arm: str) -> Path:
        """Where the newest attempt that trained to its end left its result; else where the newest attempt is."""
        return self._newest(arm, "train/result.json") / "train"

    def evaluated(self, arm: str) -> Path:
        """Where the newest attempt that was evaluated left its result; else where the newest attempt is."""
        return self._newest(arm, "evaluate/evaluation.json") / "evaluate"

    def records(self, name: str) -> list[Path]:
        """The records of a stage that there are, the newest attempt's first."""
        kind, _, arm = name.partition("/")
        found = [self._record(place, kind, arm) for place in self._places(arm)] if arm else [self.stage(name)]
        return [folder for folder in found if folder.is_dir()]

    def _own(self, arm: str) -> Path:
        place = self.root / "components" / arm
        return place if self.attempt is None else place / str(self.attempt)

    def _places(self, arm: str) -> list[Path]:
        """Where attempts have written, the newest first, and last where one machine writes."""
        place = self.root / "components" / arm
        numbers = sorted((int(path.name) for path in place.glob("[0-9]*") if path.name.isdigit()), reverse=True)
        return [*(place / str(number) for number in numbers), place]

    def _newest(self, arm: str, result: str) -> Path:
        places = self._places(arm)
        return next((place for place in places if (place / result).is_file()), places[0])

    def _record(self, place: Path | None, kind: str, arm: str) -> Path:
        if place is None:
            return self.root / "stages" / kind
        return place / "stages" / kind if place.name.isdigit() else self.root / "stages" / kind / arm
