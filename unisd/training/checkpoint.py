"""The checkpoints of a component: which there are, the newest that is whole, which may go, and how to go on from one.

Called by training, which writes them as `unisd.sealed` says. Knows nothing of what a checkpoint holds.
"""

import json
import shutil
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from unisd.failures import StageError
from unisd.files import Json, write_jsonl
from unisd.sealed import MANIFEST, complete_directory, fault_of

_PREFIX = "checkpoint-"


def step_of(checkpoint: Path) -> int:
    """The optimiser step of a checkpoint directory."""
    return int(checkpoint.name.removeprefix(_PREFIX))


def checkpoints(directory: Path) -> list[Path]:
    """All checkpoint directories, oldest first, whole or not."""
    found = [path for path in directory.glob(f"{_PREFIX}*") if path.name.removeprefix(_PREFIX).isdigit()]
    return sorted(found, key=step_of)


def newest_whole(directories: Sequence[Path]) -> tuple[Path | None, list[str]]:
    """The newest checkpoint without fault, and a sentence for each newer one that has one.

    Args:
        directories: where attempts wrote theirs, the newest attempt's first; an older attempt's count after all of its.

    Raises:
        StageError: CheckpointCorrupt, if there are checkpoints and none is whole.
    """
    faults: list[str] = []
    for path in _newest_first(directories):
        fault = fault_of(path)
        if fault is None:
            return path, faults
        faults.append(f"{path.name} is corrupt ({fault})")
    if faults:
        raise StageError(
            "CheckpointCorrupt",
            f"no whole checkpoint in {directories[0]}: {'; '.join(faults)}; remove them to start anew",
        )
    return None, []


def keep_newest(directories: Sequence[Path], count: int) -> None:
    """Deletes all but the newest `count` checkpoints; `directories` as in `newest_whole`."""
    for path in _newest_first(directories)[count:]:
        shutil.rmtree(path, ignore_errors=True)


def drop_newer(directories: Sequence[Path], chosen: Path) -> None:
    """Deletes those that were passed over for `chosen`: they would stand where the same steps are written again."""
    for path in takewhile(lambda path: path != chosen, _newest_first(directories)):
        shutil.rmtree(path, ignore_errors=True)


def go_on_from(checkpoint: Path | None, directory: Path) -> None:
    """Brings into this attempt's directory what was recorded up to a checkpoint, so that no step stands there twice."""
    directory.mkdir(parents=True, exist_ok=True)
    step, source = (step_of(checkpoint), checkpoint.parent) if checkpoint else (0, directory)
    for name in ("metrics.jsonl", "probes.jsonl"):
        if (source / name).is_file():
            write_jsonl(directory / name, [row for row in _whole_lines(source / name) if row["step"] <= step])
    if source != directory and (source / "best").is_dir():
        with complete_directory(directory / "best") as staging:
            shutil.copytree(source / "best", staging, ignore=shutil.ignore_patterns(MANIFEST), dirs_exist_ok=True)


def _newest_first(directories: Sequence[Path]) -> list[Path]:
    return [path for directory in directories for path in reversed(checkpoints(directory))]


def _whole_lines(path: Path) -> list[Json]:
    """The objects of a file that is appended to: a line that a killed process or a full disk cut short is left out."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.endswith("\n")]
