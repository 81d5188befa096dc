"""What a local run shows: a live table on a terminal, plain lines elsewhere. Prints nothing but through rich."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

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


@contextmanager
def display(console: Console) -> Iterator[Callable[[Sequence[StageState]], None]]:
    """A function to call with the stages' states, as often as one likes."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    with Live(console=console, refresh_per_second=4) as live:
        yield lambda states: live.update(_table(states))


class _Lines:
    """A line for every change: for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._seen: dict[str, tuple[Phase, int]] = {}

    def __call__(self, states: Sequence[StageState]) -> None:
        for state in states:
            percentage = int(state.progress.get("progressPercentage", 0)) // 25 * 25
            mark = (state.phase, percentage if state.phase == "running" else 0)
            if state.phase == "waiting" or self._seen.get(state.stage.name) == mark:
                continue
            self._seen[state.stage.name] = mark
            self._console.print(_line(state), highlight=False, markup=False, soft_wrap=True)


def _line(state: StageState) -> str:
    words = [f"{state.phase:9}{state.stage.name}"]
    if state.phase == "running" and state.progress:
        words.append(f"{state.progress['progressPercentage']}%{_figures(state)}{_remaining(state)}")
    if state.phase in ("finished", "failed"):
        words.append(f"after {_duration(state.seconds)}")
    if state.phase == "skipped":
        words.append("(finished before)")
    if state.failure:
        words.append(f"{state.failure['reason']}: {state.failure['message']}")
    return "  ".join(words)


def _table(states: Sequence[StageState]) -> RenderableType:
    table = Table(box=None, pad_edge=False)
    for heading in ("", "stage", "progress", "time", "left", ""):
        table.add_column(heading, header_style="dim")
    failures: list[RenderableType] = []
    for state in states:
        symbol, style = _LOOKS[state.phase]
        percentage = 100.0 if state.phase in ("finished", "skipped") else state.progress.get("progressPercentage", 0)
        bar = ProgressBar(total=100, completed=percentage, width=24)
        table.add_row(
            Text(symbol, style),
            Text(state.stage.name, style),
            bar,
            _duration(state.seconds) if state.seconds else "",
            _remaining(state).removeprefix(", ").removesuffix(" left") if state.phase == "running" else "",
            Text(_figures(state).removeprefix(", "), "dim"),
        )
        if state.failure:
            failures.append(Text(f"✗ {state.stage.name}: {state.failure['reason']}: {state.failure['message']}", "red"))
    return Group(table, *failures)


def _figures(state: StageState) -> str:
    metrics = state.progress.get("metrics") or {}
    return "".join(f", {name.replace('_', ' ')} {metrics[name]:.3g}" for name in _SHOWN if name in metrics)


def _remaining(state: StageState) -> str:
    seconds = state.progress.get("estimatedRemainingSeconds")
    return "" if seconds is None else f", {_duration(seconds)} left"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
