"""Commands that look at a run on a cluster: status, logs."""

import argparse

from unisd.cli.console import Commands, complain, say


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
    parser.add_argument("-n", "--namespace", help="default: that of the kubeconfig's context")
    parser.add_argument("--context", help="context of the kubeconfig; default: the current one")
    return parser


def _status(options: argparse.Namespace) -> int:
    from rich.console import Console

    from unisd.remote.cluster import Cluster, ClusterError
    from unisd.remote.show import show_status

    try:
        return show_status(Cluster(options.namespace, options.context), options.run, Console(), watch=options.watch)
    except ClusterError as error:
        complain(str(error))
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
            say(line)
    except ClusterError as error:
        complain(str(error))
        return 1
    return 0
