"""What stands on disk about a stage: whose result lies there, by the hash of its inputs, and whether it is finished.

Written by whoever carries a stage out: the local runner for its children, `unisd STAGE` for itself.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from unisd.files import read_json, write_json
from unisd.rundir import RunDir
from unisd.stages import Stage


def is_finished(directory: RunDir, stage: Stage) -> bool:
    """Whether a result of exactly this stage, by its hash, lies there already, from whatever attempt.

    One that takes what there is of other stages is finished for as long as there is no more of them.
    """
    found = [folder / "done.json" for folder in directory.records(stage.name)]
    done = [read_json(path) for path in found if _recorded_hash(path) == stage.hash]
    return any(told.get("of", []) == _ended_well(directory, stage.optional_needs) for told in done)


def _ended_well(directory: RunDir, names: Sequence[str]) -> list[str]:
    """Those of some stages that have a result."""
    return [name for name in names if any((folder / "done.json").is_file() for folder in directory.records(name))]


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
            return [directory.prepared.root]
        case "contexts":
            return [directory.contexts]
        case "report":
            return [directory.report]
        case "push":
            return []
        case "train":
            return _of_training(directory, stage.arm.name) if stage.arm else []
        case "evaluate":
            return [directory.evaluate(stage.arm.name)] if stage.arm else []


def _of_training(directory: RunDir, arm: str) -> list[Path]:
    """What a training leaves, and what was found of it."""
    return [directory.train(arm), directory.evaluate(arm), directory.stage(f"evaluate/{arm}")]


def finish(directory: RunDir, stage: Stage, seconds: float) -> None:
    """Records that a stage is done, and what it took in of stages that might have failed."""
    told = {"hash": stage.hash, "seconds": seconds}
    of = {"of": _ended_well(directory, stage.optional_needs)} if stage.optional_needs else {}
    write_json(directory.stage(stage.name) / "done.json", told | of)
