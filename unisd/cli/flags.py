"""The research code's flags on a parser, and an experiment from what was typed. Shared by train and experiments."""

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unisd.experiments.flags import FLAGS, spellings

if TYPE_CHECKING:
    from unisd.config.run import SelfDistillRun
    from unisd.experiments.plan import Manifest


def add_flags(parser: argparse.ArgumentParser, *, several: bool) -> None:
    """Every flag of the table; each may list values if `several`."""
    group = parser.add_argument_group("settings", "of the manifest; names as in the research code")
    for flag in FLAGS:
        given: dict[str, Any] = {"dest": flag.name, "help": f"{flag.help} ({flag.field})", "metavar": "VALUE"}
        if several:
            given |= {"action": "append", "type": values_of(flag.kind)}
        else:
            given |= {"type": flag.kind}
        group.add_argument(*flag.spellings, **given)
    group.add_argument(
        *spellings("source"),
        action="append",
        default=[],
        metavar="[TASK=]PATH",
        help="local rows: a JSON Lines file, or a folder with train.jsonl and test.jsonl",
    )
    group.add_argument(
        *spellings("use_vllm"),
        action=argparse.BooleanOptionalAction,
        default=None,
        help="sample with vLLM servers; default: on a cluster alone",
    )
    group.add_argument(
        *spellings("cross_eval"), action="store_true", help="also score GPQA after ScienceQA, HumanEval after MBPP"
    )


def whole(least: int) -> Callable[[str], int]:
    """A parser of whole numbers from `least` on."""

    def parsed(text: str) -> int:
        if not text.strip().isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"should be a whole number from {least} on, got {text!r}")
        return int(text)

    return parsed


count = whole(1)


def not_negative(text: str) -> float:
    """A finite number from 0 on."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"should be a finite number from 0 on, got {text!r}")
    return value


def values_of(kind: Any) -> Any:
    """A parser of a list with commas."""

    def parsed(text: str) -> list[Any]:
        return [kind(part.strip()) for part in text.split(",") if part.strip()]

    parsed.__name__ = f"list of {kind.__name__}"
    return parsed


def listed(lists: "list[list[Any]] | None") -> list[Any]:
    """What a flag that was given any number of times lists, each once."""
    return list(dict.fromkeys(value for values in lists or [] for value in values))


def sources_of(options: argparse.Namespace, only: str | None) -> dict[str, str]:
    """Local rows by task; `only` is the data set that a path without a name belongs to."""
    from unisd.experiments.plan import task_name

    found: dict[str, str] = {}
    for text in options.source:
        task, named, path = text.partition("=")
        if not named:
            if only is None:
                raise ValueError(f"--source: {text!r} names no task: write TASK=PATH")
            task, path = only, text
        if not path:
            raise ValueError(f"--source: {text!r} names no path")
        found[task_name(task)] = str(Path(path).expanduser().absolute())
    return found


def check_given(options: argparse.Namespace, *names: str) -> None:
    """Raises ValueError for a flag that was given and lists nothing: mostly a variable of a shell that is not set."""
    for name in names:
        value = getattr(options, name)
        if value is not None and not (listed(value) if isinstance(value, list) else value):
            raise ValueError(f"--{name}: is empty; leave it out for the default")


def parsed_runs(found: "Sequence[Manifest]", *, cluster: bool) -> "list[SelfDistillRun]":
    """The manifests as runs. Raises ConfigError with the problems of the first that is wrong."""
    from unisd.config.load import parse_cluster_run, parse_run

    parse = parse_cluster_run if cluster else parse_run
    return [parse(manifest, manifest["metadata"]["name"]) for manifest in found]


def written(manifest: "Manifest", path: Path) -> Path:
    """Writes a manifest that can be run again."""
    import yaml

    from unisd.files import write_text

    write_text(path, yaml.safe_dump(manifest, sort_keys=False))
    return path
