"""`unisd experiments`: the research code's sweeps as manifests, run here on a pool of GPUs or applied to a cluster."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unisd.cli.cluster import add_cluster, on_cluster
from unisd.cli.console import BAD_INPUT, Commands, complain, console_of_stdout, made, say, stages_of
from unisd.cli.flags import add_flags, check_given, count, listed, parsed_runs, sources_of, values_of, written
from unisd.cli.local import show_stages, summarise
from unisd.experiments.flags import FLAGS, spellings
from unisd.experiments.modes import MODES

if TYPE_CHECKING:
    from unisd.config.run import SelfDistillRun
    from unisd.experiments.plan import Experiment, Manifest
    from unisd.remote.cluster import Cluster


def add(commands: Commands) -> None:
    """Tells the parser of the command. One parser: options mean the same before and after the subcommand."""
    parser = commands.add_parser(
        "experiments",
        help="models × data sets × modes × hyperparameters × seeds, as runs",
        description="Every option may list values with commas or be given several times; the runs are the product.",
        allow_abbrev=False,
    )
    parser.add_argument("subcommand", metavar="SUBCOMMAND", choices=MODES, help=", ".join(MODES))
    for name, others, text in (
        ("models", ("model_name",), "hub ids, directories or .gguf files; default Qwen/Qwen2.5-7B-Instruct"),
        ("datasets", ("dataset",), "scienceqa, mbpp, cos_e, tooluse, …; -maxN after one takes N training rows"),
        ("modes", ("mode",), "some of the subcommand's modes; default all"),
        ("baselines", (), "components that come first, e.g. raw,sft; default raw"),
    ):
        every = [spelling for each in (name, *others) for spelling in spellings(each)]
        parser.add_argument(*every, action="append", type=values_of(str), dest=name, help=text, metavar="LIST")
    parser.add_argument("--seeds", "--seed", action="append", type=values_of(int), help="default 1", metavar="LIST")
    parser.add_argument("--weight", action="append", type=values_of(float), help="of the subcommand's own term")
    parser.add_argument("--output", type=Path, default=Path("experiments"), help="manifests, results; ./experiments")
    parser.add_argument("--gpus", action="append", type=values_of(str), help="ids of the GPUs to use; default all")
    parser.add_argument(*spellings("per_device"), type=count, default=1, help="components that share a GPU; default 1")
    parser.add_argument(
        "--parallelism", type=count, default=1, help="components of a run at once, on a cluster or a CPU"
    )
    parser.add_argument("--dry-run", action="store_true", help="show every job and what is done; write and run nothing")
    parser.add_argument("--manifests-only", action="store_true", help="write the manifests and stop")
    parser.add_argument("--apply", action="store_true", help="apply the runs to a cluster")
    add_cluster(parser.add_argument_group("with --apply"))
    add_flags(parser, several=True)
    parser.set_defaults(command=_experiments)


def _experiments(options: argparse.Namespace) -> int:
    from unisd.config.base import ConfigError
    from unisd.experiments.plan import manifests

    try:
        _check_place(options)
        found = manifests(_experiment(options))
        runs = parsed_runs(found, cluster=options.apply)
    except (ConfigError, ValueError) as error:
        complain(str(error))
        return BAD_INPUT
    if options.dry_run:
        return _dry_run(options, runs)
    if not made(options.output, "--output"):
        return BAD_INPUT
    paths = [written(each, options.output / f"{each['metadata']['name']}.yaml") for each in found]
    if options.manifests_only:
        say("\n".join(str(path) for path in paths))
        return 0
    return _apply(options, found) if options.apply else _run(options, paths)


def _check_place(options: argparse.Namespace) -> None:
    """Raises ValueError for an option of a cluster without --apply, or of this machine with it."""
    elsewhere = ("gpus",) if options.apply else ("namespace", "context")
    for name in elsewhere:
        if getattr(options, name) is not None:
            where = "this machine: leave it or --apply out" if options.apply else "a cluster: give --apply with it"
            raise ValueError(f"--{name}: is of {where}")


def _experiment(options: argparse.Namespace) -> "Experiment":
    from unisd.config.presets import PRESETS, PresetName
    from unisd.experiments.flags import WEIGHT_OF
    from unisd.experiments.plan import DEFAULT_MODEL, Experiment

    check_given(options, "models", "modes", "seeds", "gpus", *(flag.name for flag in FLAGS))
    grid: dict[str, list[Any]] = {flag.name: listed(getattr(options, flag.name)) for flag in FLAGS}
    if options.weight:
        if options.subcommand not in WEIGHT_OF:
            raise ValueError(f"--weight: {options.subcommand} has no term of one weight; use the flag of the term")
        grid[WEIGHT_OF[options.subcommand]] += listed(options.weight)
    modes = listed(options.modes) or list(MODES[options.subcommand])
    strange = [mode for mode in modes if mode not in MODES[options.subcommand]]
    if strange:
        raise ValueError(
            f"--modes: {strange[0]} is none of {options.subcommand}: {', '.join(MODES[options.subcommand])}"
        )
    baselines: list[PresetName] = listed(options.baselines) if options.baselines is not None else ["raw"]
    unknown = [name for name in baselines if name not in PRESETS]
    if unknown:
        raise ValueError(f"--baselines: no preset {unknown[0]!r}; see `unisd explain list`")
    datasets = listed(options.datasets)
    if not datasets:
        raise ValueError("--datasets: give one or several, e.g. --datasets scienceqa,cos_e")
    vllm = options.apply if options.use_vllm is None else options.use_vllm
    return Experiment(
        title=options.subcommand,
        modes=modes,
        datasets=datasets,
        models=listed(options.models) or [DEFAULT_MODEL],
        seeds=listed(options.seeds) or [1],
        grid={name: values for name, values in grid.items() if values},
        baselines=baselines,
        engine="vllm" if vllm else "transformers",
        sources=sources_of(options, datasets[0] if len(datasets) == 1 else None),
        cross_evaluate=options.cross_eval,
        parallelism=options.parallelism,
    )


def _dry_run(options: argparse.Namespace, runs: "list[SelfDistillRun]") -> int:
    for run in runs:
        show_stages(options.output / run.metadata.name, stages_of(run))
    arms = sum(len(run.spec.components) * len(run.spec.seeds) for run in runs)
    say(f"{len(runs)} runs, {arms} components with their seeds; nothing was written")
    return 0


def _run(options: argparse.Namespace, paths: list[Path]) -> int:
    from unisd.execution.devices import visible_devices
    from unisd.experiments.pool import Pool, run_all

    known = visible_devices()
    gpus = listed(options.gpus) or list(known)
    strange = [gpu for gpu in gpus if gpu not in known]
    if strange:
        complain(f"--gpus: there is no GPU {strange[0]}; this machine shows {', '.join(known) or 'none: leave it out'}")
        return BAD_INPUT
    codes = run_all(paths, Pool(gpus, options.per_device), say)
    console = console_of_stdout()
    for path in paths:
        summarise(console, path.with_suffix(""))
    return next((code if code > 0 else 1 for code in codes.values() if code), 0)


def _apply(options: argparse.Namespace, found: "list[Manifest]") -> int:
    from unisd.remote.apply import apply

    def apply_all(cluster: "Cluster") -> int:
        for manifest in found:
            apply(cluster, manifest)
            say(f"selfdistillrun/{manifest['metadata']['name']} applied")
        return 0

    return on_cluster(options, apply_all)
