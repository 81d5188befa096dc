"""What `unisd status` and `unisd logs` show. Reads through `remote.cluster`, writes to a console or yields lines."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from unisd.local.display import table
from unisd.remote.cluster import Cluster, ClusterError
from unisd.remote.status import failure_of, headline, names, rows
from unisd.stages import CLOSING

_SECONDS_BETWEEN_LOOKS = 2.0
_ENDED = ("Succeeded", "Failed", "Invalid")


def show_status(cluster: Cluster, name: str, console: Console, *, watch: bool) -> int:
    """Shows a run; with `watch` until it has ended. Returns 1 for a failed or invalid run, else 0."""
    run = cluster.run(name)
    if not watch:
        console.print(_picture(run))
        return _code(run)
    with Live(_picture(run), console=console, refresh_per_second=2) as live:
        while run.get("status", {}).get("phase") not in _ENDED:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            run = cluster.run(name)
            live.update(_picture(run))
    return _code(run)


def _picture(run: dict[str, Any]) -> Group:
    return Group(Text(headline(run)), table(rows(run, datetime.now(UTC))))


def _code(run: dict[str, Any]) -> int:
    return int(run.get("status", {}).get("phase") in ("Failed", "Invalid"))


def log_lines(
    cluster: Cluster, name: str, component: str, role: str, *, follow: bool, tail: int | None
) -> Iterator[str]:
    """Lines of the containers of a component; of its last failure, kept in status, where its pods are gone.

    Raises:
        ClusterError: no such component, or it has no log; the message names those there are.
    """
    run = cluster.run(name)
    known = names(run)
    if component not in known:
        raise ClusterError(f"run {name} has no component {component}; it has {', '.join(known) or 'none yet'}")
    shared = component in ("prepare", "contexts", *CLOSING)
    logs = cluster.logs(run["metadata"]["uid"], component, component if shared else role)
    if not logs:
        yield from _kept_lines(run, component, role)
        return
    for log in logs[:1] if follow else logs:
        if len(logs) > 1:
            yield f"==> {log.pod} {log.container} <=="
        yield from cluster.lines(log, follow=follow, tail=tail)


def _kept_lines(run: dict[str, Any], component: str, role: str) -> Iterator[str]:
    failure = failure_of(run, component)
    if failure is None:
        raise ClusterError(f"{component} has no {role} pod now, and no failed one before it")
    if not failure.get("logTail"):
        raise ClusterError(f"{component} failed and left no log: {failure['reason']}: {failure['message']}")
    yield f"==> pod {failure.get('pod')} is gone; the end of its log <=="
    yield from failure["logTail"].splitlines()
