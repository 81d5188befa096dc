"""One stage in a process of its own: its log, its signals, its exit code. The runner's other half.

Forked from the warm process; follows the runner, so that one that is killed leaves nothing running.
"""

import contextlib
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import traceback
from dataclasses import dataclass
from pathlib import Path

from unisd.config.run import SelfDistillRun
from unisd.failures import EXIT_CODES, Reason, StageError, is_disk_full
from unisd.job import Job, stage_function
from unisd.local.devices import device_id
from unisd.metrics.progress import Progress
from unisd.rundir import RunDir, write_json
from unisd.stages import Stage


@dataclass(frozen=True)
class Assignment:
    """What a child process is to do."""

    run: SelfDistillRun
    root: Path
    stage: Stage
    device: int | None
    threads: int


def carry_out(assignment: Assignment) -> None:
    """Runs the stage and exits with its code; everything printed goes to the stage's log."""
    stand_alone()
    folder = RunDir(assignment.root).stage(assignment.stage.name)
    _redirect(folder / "log.txt")
    if assignment.device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device_id(assignment.device)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True)
    code = run_stage(assignment, folder)
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(code)


def stand_alone() -> None:
    """Leaves the terminal's group, so that Ctrl-C is the runner's alone, and asks itself to stop if the runner dies."""
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_the_runner, name="follow", daemon=True).start()


def _follow_the_runner() -> None:
    runner = multiprocessing.parent_process()
    assert runner is not None, "a child has a parent"
    multiprocessing.connection.wait([runner.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)


def _redirect(log: Path) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def run_stage(assignment: Assignment, folder: Path) -> int:
    """Carries out the stage; returns the exit code and leaves failure.json if it is not 0."""
    stage = assignment.stage
    try:
        _limit_threads(assignment.threads)
        job = Job(assignment.run, RunDir(assignment.root), stage.arm, Progress(folder / "progress.json"))
        stage_function(stage.kind)(job)
    except StageError as error:
        logging.getLogger(__name__).error("%s: %s", error.reason, error)
        return _told(folder, error.reason, str(error))
    except Exception as error:  # noqa: BLE001 - the edge of a process: whatever it was is reported, not lost
        traceback.print_exc()
        if is_disk_full(error, assignment.root):
            return _told(folder, "StorageFull", f"no room left in {assignment.root}: free or add space and run again")
        return _told(folder, "NonZeroExit", f"{type(error).__name__}: {error}")
    return 0


def _told(folder: Path, reason: Reason, message: str) -> int:
    """Leaves failure.json for the runner, which takes the exit code's word where the disk has no room for it."""
    with contextlib.suppress(OSError):
        write_json(folder / "failure.json", {"reason": reason, "message": message})
    return EXIT_CODES[reason]


def _limit_threads(threads: int) -> None:
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)
