"""What the commands share: printing, exit codes, and the manifest that most of them begin with."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from unisd.failures import EXIT_CODES

if TYPE_CHECKING:
    from rich.console import Console

    from unisd.config.run import SelfDistillRun
    from unisd.stages import Stage

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
BAD_INPUT = EXIT_CODES["BadInput"]
INTERRUPTED = 130


def say(text: str) -> None:
    """Prints a line."""
    print(text)  # noqa: T201 - the command line is where printing belongs


def complain(text: str) -> None:
    """Prints a line where it is no output."""
    print(text, file=sys.stderr)  # noqa: T201


def console_of_stdout() -> "Console":
    """The terminal, or lines wide enough for a file or a pipe."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=140)


def load(path: Path, cluster: bool = False) -> "SelfDistillRun | None":
    """The manifest, as this machine or as a cluster takes it, or None after its problems were shown."""
    from unisd.config.base import ConfigError
    from unisd.config.load import load_cluster_run, load_run

    try:
        return load_cluster_run(path) if cluster else load_run(path)
    except ConfigError as error:
        complain(str(error))
        return None


def made(directory: Path, flag: str) -> bool:
    """Whether a directory to write to is there now; says why not, of the flag that names it."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        complain(f"{flag}: {directory} cannot be made ({error.strerror}): give a directory that may be written to")
        return False
    return True


def stages_of(run: "SelfDistillRun") -> "tuple[Stage, ...]":
    """The stages of a run, by the contents of the local files that it reads."""
    from unisd.models import content_digest
    from unisd.stages import stages

    source = run.spec.task.source
    read = {"model": run.spec.model.path, "rows": source.path if source else None}
    read |= {f"rows:{given.task}": given.path for given in run.spec.evaluation.sources or ()}
    sources = {
        field: content_digest(Path(path)) for field, path in read.items() if path is not None and Path(path).exists()
    }
    return stages(run, sources)
