"""The command line: the only place that prints. Heavy packages are imported by the stages that need them, not here.

Each module holds one group of commands: `add` tells the parser of them, and each command is a function from its
options to an exit code.
"""

import argparse
import sys
from collections.abc import Callable, Sequence

from unisd import __version__
from unisd.cli import agent, evaluation, experiments, grader, local, manifests, remote, stage, training, transfer


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
    parser.add_argument("--version", action="version", version=f"unisd {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for group in (local, training, evaluation, experiments, manifests, remote, transfer, agent, grader, stage):
        group.add(commands)
    return parser
