"""Directories that are complete or absent, and whether one is still as it was written.

Filled beside its place, sealed with a manifest of sizes and digests, synced and renamed: a process killed at any moment
leaves what stood there untouched. For checkpoints and trained weights, and for whoever carries those elsewhere; knows
nothing of what a directory holds.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unisd.failures import StageError, is_disk_full
from unisd.files import read_json, share, write_json
from unisd.rundir import CARD

MANIFEST = "manifest.json"


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
    share(directory)
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
