"""Where a run keeps what: the one place that knows file names inside a run's directory.

run.json                     the resolved manifest, local paths absolute
prepared/                    train.jsonl, pool.jsonl (donors), probe.jsonl, eval-TASK.jsonl, neighbours-SOURCE.json,
                             prepared.json, model (link to the model's directory: what rollout servers load)
contexts/                    negatives.jsonl, instructions-D.jsonl, samples-ARM.jsonl, contexts.json
components/ARM/train/        checkpoint-N/, best/, adapter/, metrics.jsonl, result.json
components/ARM/evaluate/     items-TASK.jsonl, evaluation.json
report/                      report.json, report.html
stages/NAME/                 log.txt, progress.json, done.json (hash, seconds), failure.json
"""

import json
import os
from pathlib import Path
from typing import Any

Json = dict[str, Any]


def write_json(path: Path, value: object) -> None:
    """Writes a file completely or not at all: a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f".{path.name}.{os.getpid()}")
    with staging.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, ensure_ascii=False, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())
    staging.replace(path)


def link(path: Path, target: Path) -> None:
    """Makes a link, in place of one that may be there."""
    staging = path.with_name(f".{path.name}.{os.getpid()}")
    staging.symlink_to(target.absolute())
    staging.replace(path)


def read_json(path: Path) -> Any:
    """The value of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_jsonl(path: Path, rows: list[Json]) -> None:
    """Writes one object a line, completely or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f".{path.name}.{os.getpid()}")
    with staging.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        file.flush()
        os.fsync(file.fileno())
    staging.replace(path)


def read_jsonl(path: Path) -> list[Json]:
    """The objects of a JSON Lines file."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


class RunDir:
    """Paths inside one run's directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def manifest(self) -> Path:
        return self.root / "run.json"

    @property
    def prepared(self) -> Path:
        return self.root / "prepared"

    @property
    def contexts(self) -> Path:
        return self.root / "contexts"

    @property
    def report(self) -> Path:
        return self.root / "report"

    def train(self, arm: str) -> Path:
        return self.root / "components" / arm / "train"

    def evaluate(self, arm: str) -> Path:
        return self.root / "components" / arm / "evaluate"

    def stage(self, name: str) -> Path:
        return self.root / "stages" / name
