"""The command line: the only place that prints. Heavy packages are imported by the stages that need them, not here."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unisd.config.run import SelfDistillRun
    from unisd.stages import Stage, StageKind

_STAGES: tuple["StageKind", ...] = ("prepare", "contexts", "train", "evaluate", "report")
_BAD_INPUT = 65
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `unisd`; exits with the codes of docs/exit-codes.md."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        code = command(options)
    except BrokenPipeError:
        sys.stderr.close()
        code = 0
    sys.exit(code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="unisd", description="Unified self-distillation for large language models.", allow_abbrev=False
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run a manifest on this machine")
    run.add_argument("-f", "--file", type=Path, required=True, help="the manifest")
    run.add_argument("--directory", type=Path, help="where results go; default runs/NAME")
    run.add_argument("--dry-run", action="store_true", help="show the stages and which are finished; run nothing")
    run.add_argument("--devices", type=int, help="GPUs to use; default all")
    run.add_argument("--parallelism", type=int, help="components at once; default spec.parallelism")
    run.set_defaults(command=_run)
    validate = commands.add_parser("validate", help="check manifests; shows every problem")
    validate.add_argument("-f", "--file", type=Path, required=True, nargs="+", help="manifests")
    validate.add_argument("--cluster", action="store_true", help="as a cluster takes them, not this machine")
    validate.set_defaults(command=_validate)
    render = commands.add_parser("render", help="print every object that the operator makes of a manifest")
    render.add_argument("-f", "--file", type=Path, required=True, help="the manifest")
    render.add_argument("--settings", type=Path, help="the installation's settings, as its chart mounts them")
    render.set_defaults(command=_render)
    schema = commands.add_parser("schema", help="print the JSON Schema of manifests, for editors")
    schema.set_defaults(command=_schema)
    explain = commands.add_parser("explain", help="show what a preset sets, with units and reasons")
    explain.add_argument("preset", help="name of the preset, or `list`")
    explain.set_defaults(command=_explain)
    status = _remote_parser(commands, "status", "show a run on a cluster as a table")
    status.add_argument("-w", "--watch", action="store_true", help="go on until the run has ended")
    status.set_defaults(command=_status)
    logs = _remote_parser(commands, "logs", "show the log of a component or shared stage on a cluster")
    logs.add_argument("component", help="component with its seed, e.g. star-1, or prepare, contexts, report")
    logs.add_argument("--role", choices=("train", "rollout", "evaluate"), default="train", help="default train")
    logs.add_argument("--follow", action="store_true", help="go on as lines come")
    logs.add_argument("--tail", type=int, help="lines from the end; default all")
    logs.set_defaults(command=_logs)
    agent = commands.add_parser("policy-agent", help="stand before a vLLM server on this machine (UNISD_API_KEY)")
    agent.add_argument("--server", required=True, help="URL of vLLM, on loopback")
    agent.add_argument("--adapters", type=Path, required=True, help="memory-backed directory that vLLM reads too")
    agent.add_argument("--host", default="0.0.0.0", help="address to listen at; default all")
    agent.add_argument("--port", type=int, default=8000, help="port of requests; default 8000")
    agent.add_argument("--metrics-port", type=int, default=9400, help="port of /metrics and /progress; default 9400")
    agent.set_defaults(command=_policy_agent)
    for kind in _STAGES:
        stage = commands.add_parser(kind, help=f"carry out the stage {kind} of a run, in this process")
        stage.add_argument("-f", "--file", type=Path, required=True, help="the manifest")
        if kind == "contexts":
            _contexts_arguments(stage)
            continue
        stage.add_argument("--directory", type=Path, required=True, help="the run's directory")
        if kind in ("train", "evaluate"):
            stage.add_argument("--arm", required=True, help="component and seed, e.g. star-1")
        stage.set_defaults(command=_stage, kind=kind)
    return parser


def _contexts_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action", nargs="?", choices=("build", "show"), help="prepare and write them, or print some; default the stage"
    )
    parser.add_argument("--directory", type=Path, help="the run's directory; default runs/NAME")
    parser.add_argument("--component", help="show: whose contexts; default the first that has teachers")
    parser.add_argument("--example", action="append", default=[], help="show: id of a training row; default the first")
    parser.set_defaults(command=_contexts, kind="contexts", dry_run=False, devices=None, parallelism=None)


def _remote_parser(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text)
    parser.add_argument("run", help="name of the run")
    parser.add_argument("-n", "--namespace", help="default: that of the kubeconfig's context")
    parser.add_argument("--context", help="context of the kubeconfig; default: the current one")
    return parser


def _say(text: str) -> None:
    print(text)  # noqa: T201 - the command line is where printing belongs


def _complain(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201


def _load(path: Path, cluster: bool = False) -> "SelfDistillRun | None":
    """The manifest, as this machine or as a cluster takes it, or None after its problems were shown."""
    from unisd.config.base import ConfigError
    from unisd.config.load import load_cluster_run, load_run

    try:
        return load_cluster_run(path) if cluster else load_run(path)
    except ConfigError as error:
        _complain(str(error))
        return None


def _stages_of(run: "SelfDistillRun") -> "tuple[Stage, ...]":
    from unisd.models import content_digest
    from unisd.stages import stages

    source = run.spec.task.source
    read = {"model": run.spec.model.path, "rows": source.path if source else None}
    read |= {f"rows:{given.task}": given.path for given in run.spec.evaluation.sources or ()}
    sources = {
        field: content_digest(Path(path)) for field, path in read.items() if path is not None and Path(path).exists()
    }
    return stages(run, sources)


def _run(options: argparse.Namespace) -> int:
    run = _load(options.file)
    if run is None:
        return _BAD_INPUT
    directory = options.directory or Path("runs") / run.metadata.name
    found = _stages_of(run)
    if options.dry_run:
        return _dry_run(directory, found)
    return _run_stages(run, directory, found, options)


def _dry_run(directory: Path, found: "tuple[Stage, ...]") -> int:
    from rich.console import Console
    from rich.table import Table

    from unisd.local.state import is_finished
    from unisd.rundir import RunDir

    table = Table(box=None, pad_edge=False, title=f"stages of {directory}", title_justify="left")
    for heading in ("stage", "state", "needs", "hash"):
        table.add_column(heading, header_style="dim")
    for stage in found:
        state = "finished" if is_finished(RunDir(directory), stage) else "to do"
        needs = (*stage.needs, *(f"({name})" for name in stage.optional_needs))
        table.add_row(stage.name, state, ", ".join(needs), stage.hash)
    Console().print(table)
    return 0


def _run_stages(run: "SelfDistillRun", directory: Path, found: "tuple[Stage, ...]", options: argparse.Namespace) -> int:
    from rich.console import Console

    from unisd.failures import StageError
    from unisd.local.devices import visible_devices
    from unisd.local.display import display
    from unisd.local.runner import Options, Runner, succeeded
    from unisd.rundir import RunDir

    devices = visible_devices() if options.devices is None else options.devices
    console = Console() if sys.stdout.isatty() else Console(width=140)
    machine = Options(devices=devices, parallelism=options.parallelism or run.spec.parallelism)
    try:
        with display(console) as show:
            runner = Runner(run, RunDir(directory), found, machine, show)
            states = runner.to_end()
    except StageError as error:
        _complain(f"{error.reason}: {error}")
        return error.exit_code
    if runner.interrupted:
        _complain(f"stopped; `unisd run -f {options.file}` goes on from here")
        return _INTERRUPTED
    _summarise(console, directory)
    for state in states:
        if state.failure:
            console.print(f"\n{state.stage.name}, the end of its log:", style="red")
            console.print(state.failure.get("logTail", ""), markup=False, highlight=False)
    return 0 if succeeded(run, states) else 1


def _summarise(console: "object", directory: Path) -> None:
    from rich.console import Console

    from unisd.evaluation.summary import summary_table
    from unisd.rundir import RunDir, read_json

    report = RunDir(directory).report
    if not (report / "report.json").is_file():
        return
    assert isinstance(console, Console)
    console.print()
    console.print(summary_table(read_json(report / "report.json"), console.width))
    console.print(f"\nreport: {report / 'report.html'}", highlight=False)


def _validate(options: argparse.Namespace) -> int:
    valid = True
    for path in options.file:
        run = _load(path, options.cluster)
        valid = valid and run is not None
        if run is not None:
            _say(f"{path}: valid")
    return 0 if valid else _BAD_INPUT


def _render(options: argparse.Namespace) -> int:
    import yaml
    from pydantic import ValidationError
    from unisd_operator.planning.render import gpus, most_gpus, render, to_yaml
    from unisd_operator.settings import Settings, read_settings

    from unisd.config.base import ConfigError
    from unisd.config.load import load_cluster_run

    try:
        run = load_cluster_run(options.file)
        settings = read_settings(options.settings) if options.settings else Settings()
    except (ConfigError, ValidationError, yaml.YAMLError, OSError) as error:
        _complain(str(error))
        return _BAD_INPUT
    _say(to_yaml(render(run, settings)).rstrip())
    rows = gpus(run, settings)
    _complain("\n".join(["GPUs", *(f"  {row}" for row in rows)]))
    _complain(f"  {run.metadata.name}: at most {most_gpus(run, rows)} at once (parallelism {run.spec.parallelism})")
    return 0


def _schema(_options: argparse.Namespace) -> int:
    import json

    from unisd.config.run import SelfDistillRun

    _say(json.dumps(SelfDistillRun.model_json_schema(by_alias=True), indent=2))
    return 0


def _explain(options: argparse.Namespace) -> int:
    from unisd.config.explain import explain, preset_lines
    from unisd.config.presets import PRESETS

    if options.preset == "list":
        _say("\n".join(preset_lines()))
        return 0
    if options.preset not in PRESETS:
        _complain(f"unknown preset {options.preset!r}; presets: {', '.join(PRESETS)}")
        return _BAD_INPUT
    _say(explain(options.preset))
    return 0


def _stage(options: argparse.Namespace) -> int:
    from unisd.failures import StageError
    from unisd.job import Job, stage_function
    from unisd.metrics.progress import Progress
    from unisd.rundir import RunDir

    run = _load(options.file)
    if run is None:
        return _BAD_INPUT
    name = f"{options.kind}/{options.arm}" if hasattr(options, "arm") else options.kind
    stage = next((found for found in _stages_of(run) if found.name == name), None)
    if stage is None:
        _complain(f"{options.file} has no stage {name}; it has {', '.join(found.name for found in _stages_of(run))}")
        return _BAD_INPUT
    directory = RunDir(options.directory)
    progress = Progress(directory.stage(name) / "progress.json")
    try:
        stage_function(stage.kind)(Job(run, directory, stage.arm, progress))
    except StageError as error:
        _complain(f"{error.reason}: {error}")
        return error.exit_code
    return 0


def _contexts(options: argparse.Namespace) -> int:
    run = _load(options.file)
    if run is None:
        return _BAD_INPUT
    options.directory = options.directory or Path("runs") / run.metadata.name
    if options.action is None:
        return _stage(options)
    if options.action == "show":
        return _show_contexts(options, run)
    shared = tuple(stage for stage in _stages_of(run) if stage.kind in ("prepare", "contexts"))
    return _run_stages(run, options.directory, shared, options)


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
        _complain(str(error))
        return _BAD_INPUT
    return 0


def _status(options: argparse.Namespace) -> int:
    from rich.console import Console

    from unisd.remote.cluster import Cluster, ClusterError
    from unisd.remote.show import show_status

    try:
        return show_status(Cluster(options.namespace, options.context), options.run, Console(), watch=options.watch)
    except ClusterError as error:
        _complain(str(error))
        return 1


def _logs(options: argparse.Namespace) -> int:
    from unisd.remote.cluster import Cluster, ClusterError
    from unisd.remote.show import log_lines

    try:
        for line in log_lines(
            Cluster(options.namespace, options.context),
            options.run,
            options.component,
            options.role,
            follow=options.follow,
            tail=options.tail,
        ):
            _say(line)
    except ClusterError as error:
        _complain(str(error))
        return 1
    return 0


def _policy_agent(options: argparse.Namespace) -> int:
    import asyncio
    import os

    from unisd.rollouts.agent import AgentSettings, serve

    key = os.environ.get("UNISD_API_KEY", "")
    if not key:
        _complain("UNISD_API_KEY is empty: an agent without a key would serve everybody; set it")
        return _BAD_INPUT
    asyncio.run(
        serve(AgentSettings(options.server, key, options.adapters), options.host, options.port, options.metrics_port)
    )
    return 0
