"""`unisd train`: the stage of a run, or a run of one component by the research code's flags."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from unisd.cli.console import BAD_INPUT, Commands, complain, say, stages_of
from unisd.cli.flags import add_flags, check_given, parsed_runs, sources_of, written
from unisd.cli.local import run_stages
from unisd.cli.stage import run_stage
from unisd.experiments.flags import FLAGS, spellings

if TYPE_CHECKING:
    from unisd.experiments.plan import Experiment

_OF_THE_STAGE = ("file", "arm")
_OF_A_RUN = ("mode", "dataset", "model_name", "seed", "use_vllm", *(flag.name for flag in FLAGS))


def add(commands: Commands) -> None:
    """Tells the parser of the command."""
    parser = commands.add_parser(
        "train",
        help="carry out the stage train of a run; or, with --mode, a run of one component",
        description="With -f, the stage train of one component, in this process. With --mode, a whole run of one "
        "component: prints its manifest and carries it out.",
        allow_abbrev=False,
    )
    parser.add_argument("--directory", type=Path, help="the run's directory; with --mode by default runs/NAME")
    parser.add_argument("-f", "--file", type=Path, help="the manifest")
    parser.add_argument("--arm", help="component and seed, e.g. star-1")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="fail where no checkpoint is there to go on from; a training goes on from its last one in any case",
    )
    run = parser.add_argument_group("a run of one component")
    run.add_argument("--mode", help="preset: unisd explain list")
    run.add_argument("--dataset", help="scienceqa, mbpp, cos_e, tooluse, …; -maxN after it takes N training rows")
    run.add_argument(
        *spellings("model_name"), *spellings("model_name_or_path"), dest="model_name", help="hub id, directory or .gguf"
    )
    run.add_argument("--seed", type=int, help="training seed; default 1")
    run.add_argument("--dry-run", action="store_true", help="print the manifest alone")
    add_flags(parser, several=False)
    parser.set_defaults(command=_train, kind="train", devices=None, parallelism=None, per_device=None)


def _train(options: argparse.Namespace) -> int:
    of_the_stage, of_a_run = _given(options, _OF_THE_STAGE), _given(options, _OF_A_RUN)
    if of_the_stage and of_a_run:
        complain(
            f"--{of_a_run[0]} belongs to a run of its own, --{of_the_stage[0]} to a stage of one: give one of them"
        )
        return BAD_INPUT
    if of_the_stage:
        lacking = [name for name in ("file", "directory", "arm") if getattr(options, name) is None]
        if lacking:
            complain(f"the stage train needs --file, --directory and --arm: --{lacking[0]} is missing")
            return BAD_INPUT
        return run_stage(options) if _may_begin(options, options.directory, options.arm) else BAD_INPUT
    if options.mode is None or options.dataset is None:
        complain("give --mode and --dataset for a run of one component, or --file, --directory and --arm for a stage")
        return BAD_INPUT
    return _run(options)


def _given(options: argparse.Namespace, names: tuple[str, ...]) -> list[str]:
    return [name for name in names if getattr(options, name) is not None]


def _may_begin(options: argparse.Namespace, directory: Path, arm: str) -> bool:
    """Whether a training of any attempt has got so far as --resume, if given, wants it."""
    if not options.resume:
        return True
    place = directory / "components" / arm
    if any(found for name in ("checkpoint-*", "result.json") for found in place.glob(f"**/train/{name}")):
        return True
    complain(f"--resume: {directory} has no checkpoint of {arm} to go on from: leave --resume out to begin")
    return False


def _run(options: argparse.Namespace) -> int:
    import yaml

    from unisd.config.base import ConfigError
    from unisd.config.resolve import resolve
    from unisd.experiments.plan import manifests

    try:
        (manifest,) = manifests(_experiment(options))
        (run,) = parsed_runs([manifest], cluster=False)
    except (ConfigError, ValueError) as error:
        complain(str(error))
        return BAD_INPUT
    say(yaml.safe_dump(manifest, sort_keys=False).rstrip())
    if options.dry_run:
        return 0
    directory = options.directory or Path("runs") / run.metadata.name
    (arm,) = resolve(run.spec)
    if not _may_begin(options, directory, arm.name):
        return BAD_INPUT
    options.file = written(manifest, directory / "manifest.yaml")
    return run_stages(run, directory, stages_of(run), options)


def _experiment(options: argparse.Namespace) -> "Experiment":
    from unisd.config.presets import PRESETS
    from unisd.experiments.plan import DEFAULT_MODEL, Experiment

    check_given(options, "model_name")
    if options.mode not in PRESETS:
        raise ValueError(f"--mode: no mode {options.mode!r}; modes: {', '.join(PRESETS)}")
    given = {flag.name: getattr(options, flag.name) for flag in FLAGS}
    return Experiment(
        title=options.mode,
        modes=[options.mode],
        datasets=[options.dataset],
        models=[options.model_name or DEFAULT_MODEL],
        seeds=[1 if options.seed is None else options.seed],
        grid={name: [value] for name, value in given.items() if value is not None},
        engine="vllm" if options.use_vllm else "transformers",
        sources=sources_of(options, options.dataset),
        cross_evaluate=options.cross_eval,
    )
