"""A file or folder on its way into or out of a claim: a tar stream with one root, whole at its target or not at all.

`unisd pack` and `unisd unpack` run it in a pod, `unisd fetch` and `unisd upload` on the other end. Knows nothing of
clusters, nor of what it carries.
"""

import shutil
import tarfile
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from unisd.files import own_staging

_ROOT = "content"


class ParcelError(Exception):
    """What was to be carried is not there, is broken, or has no place; the message says which."""


def pack(source: Path, out: BinaryIO) -> None:
    """Writes a file, or a folder with all that it links to.

    Raises:
        ParcelError: it is not there.
    """
    if not source.exists():
        raise ParcelError(f"{source} is not there")
    with tarfile.open(fileobj=out, mode="w|", dereference=True) as archive:
        archive.add(source, arcname=_ROOT)


def unpack(stream: BinaryIO, target: Path) -> None:
    """Reads what `pack` wrote into `target`, which must not be there; its folder is made.

    Raises:
        ParcelError: `target` is there, or the stream ends early or is no such stream.
    """
    if target.exists():
        raise ParcelError(f"{target} is there already: remove it, or choose another place")
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = own_staging(target)
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    try:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                _extract(archive, member, staging)
        if not (staging / _ROOT).exists():
            raise ParcelError("the stream holds nothing")
        (staging / _ROOT).rename(target)
    except tarfile.TarError as error:
        raise ParcelError(f"the stream is broken or ended early: {error}") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """One file or folder. Nothing outside, no links, no devices, nobody's ids: what arrives is data."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or not (member.isfile() or member.isdir()):
        raise ParcelError(f"the stream holds {member.name}, which is no file or folder in it")
    place = folder / path
    if member.isdir():
        place.mkdir(parents=True, exist_ok=True)
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    content = archive.extractfile(member)
    assert content is not None, "it is a file"
    with place.open("wb") as file:
        shutil.copyfileobj(content, file)


def size_of(path: Path) -> tuple[int, int]:
    """Files and bytes of a file or folder."""
    files = [path] if path.is_file() else [found for found in path.rglob("*") if found.is_file()]
    return len(files), sum(file.stat().st_size for file in files)
