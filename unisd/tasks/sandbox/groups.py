"""Control groups around a program's processes, where this process may make them: how many they are, and their memory.

Resource limits hold for each process; a group holds for all of them together. Called by the pool.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
# Names of a controller's limit in the unified hierarchy and in one of its own.
_FILES = {"pids": ("pids.max", "pids.max"), "memory": ("memory.max", "memory.limit_in_bytes")}


@contextmanager
def groups(name: str, limits: Mapping[str, int], root: Path = _ROOT) -> Iterator[dict[Path, list[str]]]:
    """The groups that may be made, each with the controllers that limit it; removed at the end.

    Args:
        name: of the groups, unused so far.
        limits: `pids` (processes) and `memory` (bytes).
        root: where control groups are mounted.
    """
    made: dict[Path, list[str]] = {}
    for controller, limit in limits.items():
        with contextlib.suppress(OSError):
            parent, file = _place(controller, root)
            (parent / name).mkdir(exist_ok=parent / name in made)
            made.setdefault(parent / name, [])
            (parent / name / file).write_text(str(limit))
            made[parent / name].append(controller)
    try:
        yield made
    finally:
        for group in made:
            _remove(group)


def join(group: Path, pid: int) -> bool:
    """Puts a process, and whatever it will start, into a group; whether that was allowed."""
    try:
        (group / "cgroup.procs").write_text(str(pid))
    except OSError:
        return False
    return True


def _place(controller: str, root: Path) -> tuple[Path, str]:
    """This process's own group for a controller, and the file that limits a group in it."""
    unified, separate = _FILES[controller]
    own: dict[str, str] = {}
    for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        own |= dict.fromkeys(controllers.split(","), path.lstrip("/"))
    if controller in own:
        return root / controller / own[controller], separate
    parent = root / own.get("", "")
    enabled = parent / "cgroup.subtree_control"
    if controller not in enabled.read_text(encoding="utf-8").split():
        enabled.write_text(f"+{controller}", encoding="utf-8")
    return parent, unified


def _remove(group: Path) -> None:
    """Killed processes leave their group a moment after they are told to."""
    for _ in range(100):
        with contextlib.suppress(OSError):
            group.rmdir()
        if not group.exists():
            return
        time.sleep(0.02)
