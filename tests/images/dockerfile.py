"""A Dockerfile as instructions, and an image as an archive holds it."""

import json
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
NAMES = ("operator", "trainer", "rollout")


@dataclass(frozen=True)
class Instruction:
    """One instruction of a stage."""

    word: str
    rest: str


def stages(name: str) -> list[list[Instruction]]:
    """What stands before the first FROM, then the instructions of each stage, FROM first."""
    text = (ROOT / "images" / name / "Dockerfile").read_text(encoding="utf-8")
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    found: list[list[Instruction]] = [[]]
    for line in re.sub(r"\\\n\s*", "", lines).splitlines():
        if not line.strip():
            continue
        word, _, rest = line.partition(" ")
        if word == "FROM":
            found.append([])
        found[-1].append(Instruction(word, rest.strip()))
    return found


def of(stage: list[Instruction], word: str) -> list[str]:
    """What the instructions of a kind say."""
    return [found.rest for found in stage if found.word == word]


@dataclass(frozen=True)
class Image:
    """What a container of it would be."""

    config: dict[str, Any]
    files: frozenset[str]


def read_archive(archive: Path) -> Image:
    """The image of a docker-archive. Files that a later layer takes away stay listed: they would still be pulled."""
    files: set[str] = set()
    with tarfile.open(archive) as outer:
        (manifest,) = json.load(_member(outer, "manifest.json"))
        config = json.load(_member(outer, manifest["Config"]))["config"]
        for layer in manifest["Layers"]:
            with tarfile.open(fileobj=_member(outer, layer)) as inner:
                files.update("/" + name.removeprefix("./") for name in inner.getnames())
    return Image(config, frozenset(files))


def _member(archive: tarfile.TarFile, name: str) -> Any:
    found = archive.extractfile(name)
    assert found is not None, name
    return found
