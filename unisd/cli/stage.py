"""Single stages of a run in this process, and its contexts to build and to look at."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from unisd.cli.console import BAD_INPUT, Commands, complain, load, stages_of
from unisd.cli.local import run_stages

if TYPE_CHECKING:
    from unisd.config.run import SelfDistillRun
    from unisd.stages import StageKind

_KINDS: tuple["StageKind", ...] = ("prepare", "contexts", "evaluate", "report")


def add(commands: Commands) -> None:
    """Tells the parser of the commands."""
    for kind in _KINDS:
        stage = commands.add_parser(kind, help=f"carry out the stage {kind} of a run, in this process")
        stage.add_argument("-f", "--file", type=Path, required=True, help="the manifest")
        if kind == "contexts":
            _contexts_arguments(stage)
            continue
        stage.add_argument("--directory", type=Path, required=True, help="the run's directory")
        if kind == "evaluate":
            stage.add_argument("--arm", required=True, help="component and seed, e.g. star-1")
        stage.set_defaults(command=run_stage, kind=kind)


def _contexts_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action", nargs="?", choices=("build", "show"), help="prepare and write them, or print some; default the stage"
    )
    parser.add_argument("--directory", type=Path, help="the run's directory; default runs/NAME")
    parser.add_argument("--component", help="show: whose contexts; default the first that has teachers")
    parser.add_argument("--example", action="append", default=[], help="show: id of a training row; default the first")
    parser.set_defaults(
        command=_contexts, kind="contexts", dry_run=False, devices=None, parallelism=None, per_device=None
    )


def run_stage(options: argparse.Namespace) -> int:
    """Carries out one stage of a run in this process; the exit code."""
    from unisd.failures import StageError
    from unisd.job import Job, stage_function
    from unisd.metrics.progress import Progress
    from unisd.rundir import RunDir

    run = load(options.file)
    if run is None:
        return BAD_INPUT
    name = f"{options.kind}/{options.arm}" if hasattr(options, "arm") else options.kind
    stage = next((found for found in stages_of(run) if found.name == name), None)
    if stage is None:
        complain(f"{options.file} has no stage {name}; it has {', '.join(found.name for found in stages_of(run))}")
        return BAD_INPUT
    attempt = os.environ.get("UNISD_ATTEMPT")
    directory = RunDir(options.directory, int(attempt) if attempt else None)
    progress = Progress(directory.stage(name) / "progress.json")
    try:
        stage_function(stage.kind)(Job(run, directory, stage.arm, progress))
    except StageError as error:
        complain(f"{error.reason}: {error}")
        return error.exit_code
    return 0


def _contexts(options: argparse.Namespace) -> int:
    run = load(options.file)
    if run is None:
        return BAD_INPUT
    options.directory = options.directory or Path("runs") / run.metadata.name
    if options.action is None:
        return run_stage(options)
    if options.action == "show":
        return _show_contexts(options, run)
    shared = tuple(stage for stage in stages_of(run) if stage.kind in ("prepare", "contexts"))
    return run_stages(run, options.directory, shared, options)


def _show_contexts(options: argparse.Namespace, run: "SelfDistillRun") -> int:
    from rich.console import Console
    from rich.rule import Rule

    from unisd.contexts.show import contexts_of
    from unisd.failures import StageError
    from unisd.job import Job
    from unisd.rundir import RunDir

    console = Console()
    try:
        for identity, shown in contexts_of(Job(run, RunDir(options.directory)), options.component, options.example):
            for context in shown:
                console.print(Rule(f"{identity}: {context.title}", align="left"))
                for message in context.messages:
                    console.print(f"[dim]{message['role']}:[/dim]")
                    console.print(message["content"], markup=False, highlight=False, soft_wrap=True)
    except (ValueError, StageError) as error:
        complain(str(error))
        return BAD_INPUT
    return 0
