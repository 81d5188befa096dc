"""Single stages of a run in this process, and its contexts to build and to look at."""

import argparse
import json
import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from unisd.cli.console import BAD_INPUT, Commands, complain, load, say, stages_of
from unisd.cli.local import run_stages

if TYPE_CHECKING:
    from unisd.config.run import SelfDistillRun
    from unisd.execution.process import Outcome
    from unisd.files import Json
    from unisd.job import Job
    from unisd.stages import Stage, StageKind

_KINDS: tuple["StageKind", ...] = ("prepare", "contexts", "report", "push")


def add(commands: Commands) -> None:
    """Tells the parser of the commands."""
    for kind in _KINDS:
        stage = commands.add_parser(kind, help=f"carry out the stage {kind} of a run, in this process")
        stage.add_argument("-f", "--file", type=Path, required=True, help="the manifest")
        if kind == "contexts":
            _contexts_arguments(stage)
            continue
        stage.add_argument("--directory", type=Path, required=True, help="the run's directory")
        stage.set_defaults(command=run_stage, kind=kind)
    results = commands.add_parser("results", help="say again what the evaluation of a component found")
    results.add_argument("-f", "--file", type=Path, required=True, help="the manifest")
    results.add_argument("--directory", type=Path, required=True, help="the run's directory")
    results.add_argument("--arm", required=True, help="component and seed, e.g. star-1")
    results.set_defaults(command=_results)


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
    from unisd.execution.process import (
        Stopped,
        carry_out,
        failure,
        keeps_the_record,
        own_output,
        stopped,
        stopped_by_sigterm,
    )
    from unisd.execution.termination import result_of
    from unisd.failures import StageError
    from unisd.metrics.progress import Progress

    with own_output(), stopped_by_sigterm():
        try:
            job, stage = _job(options, options.kind)
        except StageError as error:
            return _end(failure(error), {})
        except Stopped:
            return _end(stopped(), {})
        job = replace(job, progress=Progress(job.directory.stage(stage.name) / "progress.json"))
        with _served(job, stage):
            outcome = carry_out(job, stage, writes=keeps_the_record())
        return _end(outcome, result_of(job, stage))


def _served(job: "Job", stage: "Stage") -> AbstractContextManager[None]:
    """In a pod progress is asked for; a training serves its own."""
    from unisd.metrics.prometheus import served

    if stage.kind == "train" or "UNISD_METRICS_PORT" not in os.environ:
        return nullcontext()
    return served(job.progress, stage.name)


def _results(options: argparse.Namespace) -> int:
    from unisd.execution.process import Outcome, failure, own_output
    from unisd.execution.termination import result_of
    from unisd.failures import StageError

    with own_output():
        try:
            result = result_of(*_job(options, "evaluate"))
            if "evaluations" not in result:
                raise StageError("BadInput", f"{options.directory} holds no evaluation of {options.arm}")
        except StageError as error:
            return _end(failure(error), {})
        say(json.dumps(result["evaluations"], indent=1))
        return _end(Outcome(), result)


def _job(options: argparse.Namespace, kind: str) -> "tuple[Job, Stage]":
    """The stage that the options name. Raises StageError if there is none."""
    from unisd.config.base import ConfigError
    from unisd.config.load import load_run
    from unisd.execution.process import attempt_number
    from unisd.failures import StageError
    from unisd.job import Job
    from unisd.rundir import RunDir
    from unisd.stages import stages

    try:
        run = load_run(options.file)
    except ConfigError as error:
        raise StageError("BadInput", str(error)) from None
    attempt = attempt_number()
    # What lies under the paths of a cluster's run does not change while it lives: nobody has to read a model for that.
    found = stages_of(run) if attempt is None else stages(run, {})
    name = f"{kind}/{options.arm}" if hasattr(options, "arm") else kind
    stage = next((stage for stage in found if stage.name == name), None)
    if stage is None:
        names = ", ".join(stage.name for stage in found)
        raise StageError("BadInput", f"{options.file} has no stage {name}; it has {names}")
    return Job(run, RunDir(options.directory, attempt), stage.arm), stage


def _end(outcome: "Outcome", result: "Json") -> int:
    """Tells how a stage ended, to whoever reads the log and to the operator."""
    from unisd.execution.masking import secrets_in
    from unisd.execution.termination import leave

    if outcome.reason is not None:
        complain(f"{outcome.reason}: {outcome.message}")
    words = os.environ.get("UNISD_TERMINATION_LOG")
    if words:
        try:
            leave(Path(words), outcome, result, secrets_in(os.environ))
        except OSError as error:
            complain(f"no last words could be left: {error}")
    return outcome.exit_code


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
