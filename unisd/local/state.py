"""What the local runner knows of each stage, on disk and in memory. No processes and no screens here."""

import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from unisd.rundir import Json, RunDir, read_json, write_json
from unisd.stages import Stage

Phase = Literal["waiting", "running", "finished", "skipped", "failed", "blocked", "stopped"]
ENDED: frozenset[Phase] = frozenset({"finished", "skipped", "failed", "blocked", "stopped"})
LOG_TAIL = 4096


@dataclass
class StageState:
    """One stage of a run in progress."""

    stage: Stage
    phase: Phase = "waiting"
    device: int | None = None
    started: float = 0.0
    seconds: float = 0.0
    failure: Json | None = None
    progress: Json = field(default_factory=dict)


def is_finished(directory: RunDir, stage: Stage) -> bool:
    """Whether a result of exactly this stage, by its hash, lies there already."""
    return _recorded_hash(directory.stage(stage.name) / "done.json") == stage.hash


def _recorded_hash(path: Path) -> str | None:
    if not path.is_file():
        return None
    found: str = read_json(path)["hash"]
    return found


def begin(directory: RunDir, stage: Stage) -> None:
    """Clears what other inputs left behind; what an interrupted attempt at the same stage left is kept."""
    folder = directory.stage(stage.name)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("done.json", "failure.json", "progress.json"):
        (folder / name).unlink(missing_ok=True)
    if _recorded_hash(folder / "started.json") != stage.hash:
        for output in _outputs(directory, stage):
            shutil.rmtree(output, ignore_errors=True)
        (folder / "log.txt").unlink(missing_ok=True)
        write_json(folder / "started.json", {"hash": stage.hash})


def _outputs(directory: RunDir, stage: Stage) -> list[Path]:
    match stage.kind:
        case "prepare":
            return [directory.prepared]
        case "contexts":
            return [directory.contexts]
        case "report":
            return [directory.report]
        case "train":
            return [directory.train(stage.arm.name)] if stage.arm else []
        case "evaluate":
            return [directory.evaluate(stage.arm.name)] if stage.arm else []


def finish(directory: RunDir, stage: Stage, seconds: float) -> None:
    """Records that a stage is done."""
    write_json(directory.stage(stage.name) / "done.json", {"hash": stage.hash, "seconds": seconds})


def log_tail(path: Path) -> str:
    """The last lines of a log."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - LOG_TAIL))
        return file.read().decode(errors="replace")


def refresh(directory: RunDir, state: StageState) -> None:
    """Takes in a running stage's newest progress."""
    state.seconds = time.monotonic() - state.started
    path = directory.stage(state.stage.name) / "progress.json"
    if path.is_file():
        state.progress = read_json(path)
