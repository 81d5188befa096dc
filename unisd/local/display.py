"""What a run shows: a live table on a terminal, plain lines elsewhere. Prints nothing but through rich.

Rows come from the local runner's states, or from a cluster's status (`unisd.remote`): both look alike.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from unisd.files import Json
from unisd.local.state import Phase, StageState

_LOOKS: dict[Phase, tuple[str, str]] = {
    "waiting": ("·", "dim"),
    "running": ("▶", "cyan"),
    "finished": ("✓", "green"),
    "skipped": ("✓", "green dim"),
    "failed": ("✗", "red"),
    "blocked": ("–", "yellow"),
    "stopped": ("■", "yellow"),
}
_SHOWN = ("loss", "divergence", "truncated_share")


@dataclass(frozen=True)
class Row:
    """A line of the table: one stage or component."""

    name: str
    phase: Phase
    seconds: float = 0.0
    progress: Json = field(default_factory=dict)
    failure: Json | None = None
    note: str = ""
    """What it waits for, its scores, or whatever else is worth a word."""


def _row(state: StageState) -> Row:
    return Row(state.stage.name, state.phase, state.seconds, state.progress, state.failure)


@contextmanager
def display(console: Console) -> Iterator[Callable[[Sequence[StageState]], None]]:
    """A function to call with the stages' states, as often as one likes."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    with Live(console=console, refresh_per_second=4) as live:
        yield lambda states: live.update(table([_row(state) for state in states]))


class _Lines:
    """A line for every change: for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._seen: dict[str, tuple[Phase, int]] = {}

    def __call__(self, states: Sequence[StageState]) -> None:
        for row in map(_row, states):
            percentage = int(row.progress.get("progressPercentage", 0)) // 25 * 25
            mark = (row.phase, percentage if row.phase == "running" else 0)
            if row.phase == "waiting" or self._seen.get(row.name) == mark:
                continue
            self._seen[row.name] = mark
            self._console.print(_line(row), highlight=False, markup=False, soft_wrap=True)


def _line(row: Row) -> str:
    words = [f"{row.phase:9}{row.name}"]
    if row.phase == "running" and row.progress:
        words.append(f"{row.progress['progressPercentage']}%{_figures(row)}{_remaining(row)}")
    if row.phase in ("finished", "failed"):
        words.append(f"after {_duration(row.seconds)}")
    if row.phase == "skipped":
        words.append("(finished before)")
    if row.note:
        words.append(row.note)
    if row.failure:
        words.append(f"{row.failure['reason']}: {row.failure['message']}")
    return "  ".join(words)


def table(rows: Sequence[Row]) -> RenderableType:
    """The rows as a table, failures below it."""
    shown = Table(box=None, pad_edge=False, expand=True)
    for heading in ("", "stage", "progress", "time", "left"):
        shown.add_column(heading, header_style="dim", no_wrap=True)
    shown.add_column("", no_wrap=True, overflow="ellipsis", ratio=1)  # what is long gives way to what names the row
    failures: list[RenderableType] = []
    for row in rows:
        symbol, style = _LOOKS[row.phase]
        percentage = 100.0 if row.phase in ("finished", "skipped") else row.progress.get("progressPercentage", 0)
        bar = ProgressBar(total=100, completed=percentage, width=16)
        shown.add_row(
            Text(symbol, style),
            Text(row.name, style),
            bar,
            _duration(row.seconds) if row.seconds else "",
            _remaining(row).removeprefix(", ").removesuffix(" left") if row.phase == "running" else "",
            Text(row.note or _figures(row).removeprefix(", "), "dim"),
        )
        if row.failure:
            failures.append(Text(f"✗ {row.name}: {row.failure['reason']}: {row.failure['message']}", "red"))
    return Group(shown, *failures)


def _figures(row: Row) -> str:
    metrics = row.progress.get("metrics") or {}
    return "".join(f", {name.replace('_', ' ')} {metrics[name]:.3g}" for name in _SHOWN if name in metrics)


def _remaining(row: Row) -> str:
    seconds = row.progress.get("estimatedRemainingSeconds")
    return "" if seconds is None else f", {_duration(seconds)} left"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
