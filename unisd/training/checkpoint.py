"""The checkpoints of a component: which there are, the newest that is whole, and which may go.

Called by training, which writes them as `unisd.sealed` says. Knows nothing of what a checkpoint holds.
"""

import shutil
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from unisd.failures import StageError
from unisd.sealed import fault_of

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


def _newest_first(directories: Sequence[Path]) -> list[Path]:
    return [path for directory in directories for path in reversed(checkpoints(directory))]
