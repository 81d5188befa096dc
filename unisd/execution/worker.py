"""One process of a training that has several: `python -m unisd.execution.worker FOLDER`, started by torchrun.

Reads what to do from the folder and leaves there what it ended with, both for `unisd.execution.launch`.
"""

import ctypes
import logging
import os
import re
import signal
import sys
import time
from pathlib import Path

from unisd.config.load import parse_run
from unisd.config.resolve import resolve
from unisd.execution.process import Outcome, attempt, own_output
from unisd.files import read_json, write_json
from unisd.job import Job
from unisd.metrics.progress import Progress
from unisd.rundir import RunDir

_PR_SET_PDEATHSIG = 1
_LOST = re.compile(r"Dist\w*Error|gloo|nccl\w*Error|Connection (closed|reset) by peer", re.IGNORECASE)
"""What a process says whose connection to another one broke."""


def main() -> None:
    """Trains, and exits with the code of docs/exit-codes.md."""
    folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    (folder / f"started-{rank}").touch()
    with own_output():
        outcome = attempt(_job(read_json(folder / "job.json"), rank), _train)
        if outcome.reason is not None:
            logging.getLogger(__name__).error("%s: %s", outcome.reason, outcome.message)
            _leave(folder / f"failure-{rank}.json", outcome, rank)
    if outcome.reason is not None:
        os._exit(outcome.exit_code)  # to take down a group whose other processes are gone may never end


def _train(job: Job) -> None:
    import torch

    from unisd.train import train

    if not torch.cuda.is_available():
        os.environ["ACCELERATE_USE_CPU"] = "true"
    train(job)


def _job(told: dict[str, object], rank: int) -> Job:
    run = parse_run(told["run"])
    directory = RunDir(Path(str(told["root"])), told["attempt"] if isinstance(told["attempt"], int) else None)
    arm = next(arm for arm in resolve(run.spec) if arm.name == told["arm"])
    progress = Progress(directory.stage(f"train/{arm.name}") / "progress.json") if rank == 0 else Progress()
    return Job(run, directory, arm, progress)


def _leave(path: Path, outcome: Outcome, rank: int) -> None:
    follows = outcome.reason == "NonZeroExit" and _LOST.search(outcome.message) is not None
    message = f"process {rank} of the training lost another one: {outcome.message}" if follows else outcome.message
    write_json(path, {"reason": outcome.reason, "message": message, "follows": follows, "time": time.time()})


if __name__ == "__main__":
    main()
