"""What the local runner knows of each stage of a run in progress. No processes and no screens here."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from unisd.files import Json, read_json
from unisd.rundir import RunDir
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
