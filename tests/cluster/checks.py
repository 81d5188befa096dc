"""What the tools that watch a resource make of it: kstatus, Argo CD's Lua, Flux's health checks. For tests; no cluster."""

import json
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.cluster.binaries import binary

Objects = Iterable[Mapping[str, Any]]


def kstatus(objects: Objects) -> list[dict[str, str]]:
    """`status` (Current, InProgress, Failed, …) and `message` of each object."""
    return _answers(["kstatus"], objects)


def argo_lua(script: Path, objects: Objects) -> list[Any]:
    """What an Argo CD script returns for each object: `status` and `message` of a health.lua, the object of an action."""
    return _answers(["lua", str(script)], objects)


def flux_health(objects: Objects, current: str, failed: str = "", in_progress: str = "") -> list[dict[str, str]]:
    """`status` (Current, InProgress, Failed) of each object by a Kustomization's `healthCheckExprs`."""
    expressions = ["-current", current, "-failed", failed, "-in-progress", in_progress]
    return _answers(["flux", *expressions], objects)


def _answers(arguments: list[str], objects: Objects) -> list[Any]:
    """Raises `ValueError` with the checker's words: which object, and what is wrong with it or with the script."""
    given = "\n".join(json.dumps(item) for item in objects)
    command = [str(binary("k8scheck")), *arguments]
    ended = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise ValueError(ended.stderr.strip())
    return [json.loads(line) for line in ended.stdout.splitlines()]
