"""Checkpoints that are complete or absent, and finding the newest one that is whole.

A checkpoint is written beside its place, checked into a manifest of sizes and digests, synced and renamed: a process
killed at any moment leaves the ones before it untouched. Knows nothing of what a checkpoint holds.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from unisd.failures import StageError, is_disk_full
from unisd.rundir import CARD, read_json, write_json

MANIFEST = "manifest.json"
_PREFIX = "checkpoint-"


def staging_of(target: Path) -> Path:
    """Where `target` is filled before it stands in its place."""
    return target.with_name(f".{target.name}.partial")


@contextmanager
def complete_directory(target: Path) -> Iterator[Path]:
    """A directory to fill, which becomes `target` in one step if the block succeeds and vanishes if not.

    Raises:
        StageError: StorageFull, if the disk has no room; what stood at `target` stays.
    """
    staging = staging_of(target)
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        yield staging
        _seal(staging)
        shutil.rmtree(target, ignore_errors=True)
        staging.rename(target)
        _sync(target.parent)
    except Exception as error:
        full = is_disk_full(error, target.parent)
        shutil.rmtree(staging, ignore_errors=True)
        if full:
            raise StageError(
                "StorageFull",
                f"no room for {target.name} in {target.parent}: earlier checkpoints are whole; free or add space and "
                "run again to go on from the newest",
            ) from error
        raise


def _seal(directory: Path) -> None:
    """Writes the manifest of a directory's files, all synced to disk; a model card may still be written anew."""
    files = {}
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            _sync(path)
        if path.is_file() and path.name != CARD:
            files[str(path.relative_to(directory))] = {"bytes": path.stat().st_size, "sha256": _digest(path)}
    write_json(directory / MANIFEST, files)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fault_of(directory: Path) -> str | None:
    """What is wrong with a sealed directory, or None if every file is as it was written."""
    manifest = directory / MANIFEST
    if not manifest.is_file():
        return f"{MANIFEST} is missing"
    try:
        files = read_json(manifest)
    except ValueError:
        return f"{MANIFEST} is not JSON"
    for name, expected in files.items():
        path = directory / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != expected["bytes"] or _digest(path) != expected["sha256"]:
            return f"{name} differs from what was written"
    return None


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
    for path in (path for directory in directories for path in reversed(checkpoints(directory))):
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
    found = [path for directory in directories for path in reversed(checkpoints(directory))]
    for path in found[count:]:
        shutil.rmtree(path, ignore_errors=True)
