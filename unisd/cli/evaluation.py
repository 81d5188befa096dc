"""`unisd evaluate`: the stage of a run, or any model on any tasks."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from unisd.cli.console import BAD_INPUT, Commands, complain, console_of_stdout, made
from unisd.cli.flags import count, listed, not_negative, sources_of, values_of
from unisd.cli.stage import run_stage
from unisd.config.choices import Grading, Precision
from unisd.experiments.flags import spellings

if TYPE_CHECKING:
    from unisd.config.task import Task
    from unisd.evaluation.standalone import Settings
    from unisd.evaluation.subject import Subject

_SAMPLED = 0.8
"""Temperature of several samples, where none is given: that of the paper that defines pass@k."""
_FIELDS = (("spec.task.source.path:", "--source:"), ("spec.task.source:", "--source:"))


def add(commands: Commands) -> None:
    """Tells the parser of the command."""
    parser = commands.add_parser(
        "evaluate",
        help="carry out the stage evaluate of a run; or, with --model, score any model on any tasks",
        description="With -f, the stage evaluate of one component, in this process. With --model, any model.",
        allow_abbrev=False,
    )
    stage = parser.add_argument_group("the stage of a run")
    stage.add_argument("-f", "--file", type=Path, help="the manifest")
    stage.add_argument("--directory", type=Path, help="the run's directory")
    stage.add_argument("--arm", help="component and seed, e.g. star-1")
    model = parser.add_argument_group("any model")
    model.add_argument(
        "--model",
        *spellings("model_name_or_path"),
        dest="model",
        help="RUN_DIRECTORY/ARM, a checkpoint or adapters, a .gguf file, a hub id (NAME@REVISION), or a server's model",
    )
    model.add_argument("--mode", help="how it was trained: its name in what is printed")
    model.add_argument("--adapter", type=Path, help="PEFT directory on that model")
    model.add_argument("--base", help="what --model was trained from, to measure retention and divergence against")
    model.add_argument("--server", metavar="URL", help="of a running vLLM or other OpenAI-compatible server")
    model.add_argument("--key-env", metavar="NAME", help="environment variable with the server's key")
    model.add_argument(
        "--task", "--dataset", action="append", type=values_of(str), help="one or several", metavar="LIST"
    )
    model.add_argument("--source", action="append", default=[], metavar="[TASK=]PATH", help="local rows")
    model.add_argument("--grading", choices=get_args(Grading), help="task custom: how rows are graded; default none")
    model.add_argument("--pattern", help="grading regex: its first group is the answer")
    model.add_argument("--max-examples", type=count, help="rows of each task at most, by a stable sample")
    model.add_argument("--max-tokens", type=count, default=1024, help="longest completion; default 1024")
    model.add_argument("--samples", type=count, default=1, help="completions of each row; default 1, greedy")
    model.add_argument("--temperature", type=not_negative, help=f"default 0, or {_SAMPLED} with several samples")
    model.add_argument("--seed", type=int, default=1, help="of sampling; default 1")
    model.add_argument("--passes", type=values_of(count), default=[1], help="k of pass@k, e.g. 1,5,10", metavar="LIST")
    model.add_argument(
        "--structured", action="store_true", help="ask for JSON; a server's decoding is held to a schema"
    )
    model.add_argument("--no-perplexity", action="store_true", help="no perplexities and no divergence to the base")
    model.add_argument("--precision", choices=get_args(Precision), help="default: as trained, else bfloat16")
    model.add_argument("--batch-size", type=count, default=64, help="rows generated together; default 64")
    model.add_argument("--tokens-per-pass", type=count, default=16384, help="tokens scored together; default 16384")
    model.add_argument("--output", type=Path, help="directory for items-TASK.jsonl and evaluation.json")
    parser.set_defaults(command=_evaluate, kind="evaluate")


def _evaluate(options: argparse.Namespace) -> int:
    if options.model is None:
        lacking = [name for name in ("file", "directory", "arm") if getattr(options, name) is None]
        if lacking:
            complain(
                f"give --model and --task, or --file, --directory and --arm for a stage: --{lacking[0]} is missing"
            )
            return BAD_INPUT
        return run_stage(options)
    if any(option is not None for option in (options.file, options.directory, options.arm)):
        complain("--file, --directory and --arm are of a stage, --model of any model: give one of them")
        return BAD_INPUT
    return _evaluate_model(options)


def _evaluate_model(options: argparse.Namespace) -> int:
    from unisd.evaluation.standalone import evaluate_model
    from unisd.failures import StageError

    if options.output is not None and not made(options.output, "--output"):
        return BAD_INPUT
    try:
        tasks, settings = _tasks(options), _settings(options)
        evaluation = evaluate_model(_subject(options), tasks, settings, options.output, _tell)
    except ValueError as error:
        complain(str(error))
        return BAD_INPUT
    except StageError as error:
        complain(f"{error.reason}: {_as_flags(str(error))}")
        return error.exit_code
    _show(f"{options.model}, {options.mode}" if options.mode else options.model, evaluation["tasks"])
    if options.output is not None:
        complain(f"written: {options.output / 'evaluation.json'}")
    return 0


def _as_flags(message: str) -> str:
    """What is wrong with a field of a manifest, said of the flag that stands for it."""
    for field, flag in _FIELDS:
        message = message.replace(field, flag)
    return message


def _tell(task: str, done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{task}: {done}/{total}", end="\n" if done == total else "", file=sys.stderr)  # noqa: T201


def _tasks(options: argparse.Namespace) -> "list[Task]":
    from unisd.config.task import Task
    from unisd.evaluation.structured import FORMS
    from unisd.experiments.plan import task_of

    names = listed(options.task)
    if not names:
        raise ValueError("--task: give one or several, e.g. --task scienceqa,gpqa")
    sources = sources_of(options, names[0] if len(names) == 1 else None)
    found: dict[str, Task] = {}
    for dataset in names:
        task = Task.model_validate({**task_of(dataset, sources), "maxEvalExamples": options.max_examples})
        if task.name in found:
            raise ValueError(f"--task: {dataset} is the task {task.name}, which stands there already")
        found[task.name] = _with_grading(task, options)
    strange = [name for name in sources if name not in found]
    if strange:
        raise ValueError(f"--source: {strange[0]} is none of --task: {', '.join(found)}")
    if "custom" not in found and (options.grading is not None or options.pattern is not None):
        raise ValueError("--grading and --pattern belong to task custom: remove them")
    free = [name for name in found if name not in FORMS]
    if options.structured and free:
        raise ValueError(f"--structured: answers to {', '.join(free)} have no form in JSON: leave one of both out")
    return list(found.values())


def _with_grading(task: "Task", options: argparse.Namespace) -> "Task":
    """The task with what tells how one's own rows are graded."""
    from unisd.config.problems import pattern_problems

    if task.name != "custom":
        return task
    task = task.model_copy(update={"grading": options.grading, "pattern": options.pattern})
    for problem in pattern_problems(task):
        raise ValueError(str(problem).replace("spec.task.pattern", "--pattern"))
    return task


def _settings(options: argparse.Namespace) -> "Settings":
    from unisd.evaluation.standalone import Settings

    if max(options.passes) > options.samples:
        raise ValueError(f"--passes: pass@{max(options.passes)} needs --samples {max(options.passes)} or more")
    temperature = options.temperature
    if temperature is None:
        temperature = _SAMPLED if options.samples > 1 else 0.0
    return Settings(
        max_tokens=options.max_tokens,
        samples=options.samples,
        temperature=temperature,
        seed=options.seed,
        passes=tuple(options.passes),
        probabilities=not options.no_perplexity,
        structured=options.structured,
    )


def _subject(options: argparse.Namespace) -> "Subject":
    from unisd.evaluation.chat_server import ChatServer
    from unisd.evaluation.subject import LoadedSubject, ServedSubject, place_of

    if options.server is None:
        from unisd.local import preload  # noqa: F401 - quiet settings of what is about to be loaded

        place = place_of(options.model, options.adapter, options.base, options.precision)
        return LoadedSubject(place, options.batch_size, options.tokens_per_pass)
    if options.adapter is not None or options.base is not None:
        raise ValueError("--server: what a server holds it names itself: give the adapter's name there as --model")
    if not options.server.startswith(("http://", "https://")):
        raise ValueError(f"--server: give a URL, e.g. http://gpu:8000 (got {options.server!r})")
    key = os.environ.get(options.key_env, "") if options.key_env else ""
    if options.key_env and not key:
        raise ValueError(f"--key-env: {options.key_env} is not set")
    return ServedSubject(ChatServer(options.server, options.model, key))


def _show(model: str, tasks: dict[str, Any]) -> None:
    from unisd.evaluation.summary import model_table

    console = console_of_stdout()
    for table in model_table(model, tasks):
        console.print(table)
