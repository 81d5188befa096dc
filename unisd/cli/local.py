"""`unisd run`: a manifest on this machine, by the local runner."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from unisd.cli.console import (
    BAD_INPUT,
    INTERRUPTED,
    Commands,
    complain,
    console_of_stdout,
    load,
    made,
    stages_of,
)
from unisd.cli.flags import count, whole

if TYPE_CHECKING:
    from rich.console import Console

    from unisd.config.run import SelfDistillRun
    from unisd.local.runner import Options
    from unisd.stages import Stage


def add(commands: Commands) -> None:
    """Tells the parser of the command."""
    run = commands.add_parser("run", help="run a manifest on this machine")
    run.add_argument("-f", "--file", type=Path, required=True, help="the manifest")
    run.add_argument("--directory", type=Path, help="where results go; default runs/NAME")
    run.add_argument("--dry-run", action="store_true", help="show the stages and which are finished; run nothing")
    run.add_argument("--devices", type=whole(0), help="GPUs to use; default all")
    run.add_argument("--per-device", type=count, help="components that share a GPU; default 1")
    run.add_argument(
        "--parallelism",
        type=count,
        help="components at once; default spec.parallelism, or all that --per-device allows",
    )
    run.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    run = load(options.file)
    if run is None:
        return BAD_INPUT
    directory = options.directory or Path("runs") / run.metadata.name
    found = stages_of(run)
    if options.dry_run:
        show_stages(directory, found)
        return 0
    return run_stages(run, directory, found, options)


def show_stages(directory: Path, found: "tuple[Stage, ...]") -> None:
    """Prints stages with what each needs, and whether it is finished."""
    from rich.table import Table

    from unisd.execution.record import is_finished
    from unisd.rundir import RunDir

    table = Table(box=None, pad_edge=False, title=f"stages of {directory}", title_justify="left")
    for heading in ("stage", "state", "needs", "hash"):
        table.add_column(heading, header_style="dim")
    for stage in found:
        state = "finished" if is_finished(RunDir(directory), stage) else "to do"
        needs = (*stage.needs, *(f"({name})" for name in stage.optional_needs))
        table.add_row(stage.name, state, ", ".join(needs), stage.hash)
    console_of_stdout().print(table)


def run_stages(run: "SelfDistillRun", directory: Path, found: "tuple[Stage, ...]", options: argparse.Namespace) -> int:
    """Carries out stages by the local runner and shows what came of them; the exit code."""
    from unisd.execution.devices import visible_devices
    from unisd.failures import StageError
    from unisd.local.display import display
    from unisd.local.runner import Runner, succeeded
    from unisd.rundir import RunDir

    if not made(directory, "--directory"):
        return BAD_INPUT
    devices = len(visible_devices()) if options.devices is None else options.devices
    console = console_of_stdout()
    machine = _machine(run, devices, options)
    try:
        with display(console) as show:
            runner = Runner(run, RunDir(directory), found, machine, show)
            states = runner.to_end()
    except StageError as error:
        complain(f"{error.reason}: {error}")
        return error.exit_code
    if runner.interrupted:
        complain(f"stopped; `unisd run -f {options.file}` goes on from here")
        return INTERRUPTED
    summarise(console, directory)
    for state in states:
        if state.failure:
            console.print(f"\n{state.stage.name}, the end of its log:", style="red")
            console.print(state.failure.get("logTail", ""), markup=False, highlight=False)
    return 0 if succeeded(run, states) else 1


def _machine(run: "SelfDistillRun", devices: int, options: argparse.Namespace) -> "Options":
    from unisd.local.runner import Options

    per_device: int | None = options.per_device
    places = devices * (per_device or 0)
    return Options(devices, options.parallelism or places or run.spec.parallelism, per_device or 1)


def summarise(console: "Console", directory: Path) -> None:
    """Prints the table of a run's report, if there is one."""
    from unisd.evaluation.summary import summary_table
    from unisd.files import read_json
    from unisd.rundir import RunDir

    report = RunDir(directory).report
    if not (report / "report.json").is_file():
        return
    console.print()
    console.print(summary_table(read_json(report / "report.json"), console.width))
    console.print(f"\nreport: {report / 'report.html'}", highlight=False)
