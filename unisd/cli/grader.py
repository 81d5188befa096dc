"""`unisd grader`: what judges the programs that a run's models write."""

import argparse

from unisd.cli.console import Commands


def add(commands: Commands) -> None:
    """Tells the parser of the command."""
    grader = commands.add_parser("grader", help="judge generated programs for other processes, in the sandbox")
    grader.add_argument("--host", default="::", help="address to listen at; default every one")
    grader.add_argument("--port", type=int, default=8002, help="port of requests; default 8002")
    grader.set_defaults(command=_grader)


def _grader(options: argparse.Namespace) -> int:
    from unisd.tasks.grader import serve

    serve(options.host, options.port)
    return 0
