"""Commands that look at a run on a cluster: status, logs."""

import argparse
from typing import TYPE_CHECKING

from unisd.cli.cluster import add_cluster, on_cluster
from unisd.cli.console import Commands, say

if TYPE_CHECKING:
    from unisd.remote.cluster import Cluster


def add(commands: Commands) -> None:
    """Tells the parser of the commands."""
    status = _remote_parser(commands, "status", "show a run on a cluster as a table")
    status.add_argument("-w", "--watch", action="store_true", help="go on until the run has ended")
    status.set_defaults(command=_status)
    logs = _remote_parser(commands, "logs", "show the log of a component or shared stage on a cluster")
    logs.add_argument("component", help="component with its seed, e.g. star-1, or prepare, contexts, report, push")
    logs.add_argument("--role", choices=("train", "rollout", "evaluate"), default="train", help="default train")
    logs.add_argument("--follow", action="store_true", help="go on as lines come")
    logs.add_argument("--tail", type=int, help="lines from the end; default all")
    logs.set_defaults(command=_logs)


def _remote_parser(commands: Commands, name: str, text: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text)
    parser.add_argument("run", help="name of the run")
    add_cluster(parser)
    return parser


def _status(options: argparse.Namespace) -> int:
    from rich.console import Console

    from unisd.remote.show import show_status

    return on_cluster(options, lambda cluster: show_status(cluster, options.run, Console(), watch=options.watch))


def _logs(options: argparse.Namespace) -> int:
    from unisd.remote.show import log_lines

    def show(cluster: "Cluster") -> int:
        wanted = (options.run, options.component, options.role)
        for line in log_lines(cluster, *wanted, follow=options.follow, tail=options.tail):
            say(line)
        return 0

    return on_cluster(options, show)
