"""Files out of and into a run's claim: fetch, upload, and their other ends in a pod: pack, unpack."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from unisd.cli.cluster import add_cluster, on_cluster
from unisd.cli.console import BAD_INPUT, Commands, complain, say

if TYPE_CHECKING:
    from unisd.remote.cluster import Cluster


def add(commands: Commands) -> None:
    """Tells the parser of the commands."""
    fetch = commands.add_parser("fetch", help="copy trained adapters and the report out of a run's claim")
    fetch.add_argument("run", help="name of the run")
    fetch.add_argument("component", nargs="?", help="component with its seed, e.g. star-1; default all, and the report")
    fetch.add_argument("--report", action="store_true", help="the report, beside the component or alone")
    fetch.add_argument("--to", type=Path, help="folder for them; default the run's name")
    fetch.set_defaults(command=_fetch)
    upload = commands.add_parser("upload", help="copy a file or folder into a claim")
    upload.add_argument("file", type=Path, help="file or folder")
    upload.add_argument("target", help="name of a run, whose claim it is, or of a claim")
    upload.add_argument("--to", help="path in the claim, as task.source.path and model.path give it; default its name")
    upload.set_defaults(command=_upload)
    for command in (fetch, upload):
        add_cluster(command)
        command.add_argument("--image", help="image of the pod that mounts the claim; default the run's")
        command.add_argument("--timeout", type=float, default=300.0, help="time for that pod to run, seconds")
    pack = commands.add_parser("pack", help="write a trained component or the report of a run to standard output")
    pack.add_argument("--directory", type=Path, required=True, help="the run's directory")
    pack.add_argument("--arm", help="component and seed, e.g. star-1; default the report")
    pack.set_defaults(command=_pack)
    unpack = commands.add_parser("unpack", help="read from standard input what pack or upload wrote")
    unpack.add_argument("--to", type=Path, required=True, help="the file or folder to make")
    unpack.set_defaults(command=_unpack)


def _fetch(options: argparse.Namespace) -> int:
    from unisd.remote.fetch import How, fetch, wanted

    def bring(cluster: "Cluster") -> int:
        run = cluster.run(options.run)
        names = wanted(run, options.component, options.report)
        how = How(options.image, options.timeout)
        for line in fetch(cluster, run, names, options.to or Path(options.run), how):
            say(line)
        return 0

    return on_cluster(options, bring)


def _upload(options: argparse.Namespace) -> int:
    from unisd.remote.fetch import How, upload

    if not options.file.exists():
        complain(f"{options.file} is not there")
        return BAD_INPUT

    def take(cluster: "Cluster") -> int:
        how = How(options.image, options.timeout)
        say(upload(cluster, options.file, options.target, options.to or options.file.name, how))
        return 0

    return on_cluster(options, take)


def _pack(options: argparse.Namespace) -> int:
    from unisd.parcel import ParcelError, pack
    from unisd.rundir import RunDir

    directory = RunDir(options.directory)
    try:
        pack(directory.trained(options.arm) / "adapter" if options.arm else directory.report, sys.stdout.buffer)
    except ParcelError as error:
        complain(str(error))
        return 1
    return 0


def _unpack(options: argparse.Namespace) -> int:
    from unisd.parcel import ParcelError, unpack

    try:
        unpack(sys.stdin.buffer, options.to)
    except (ParcelError, OSError) as error:
        complain(str(error))
        return 1
    return 0
