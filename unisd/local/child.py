"""One stage in a process of its own: its log, its signals, its exit code. The runner's other half.

Forked from the warm process; follows the runner, so that one that is killed leaves nothing running.
"""

import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from unisd.config.run import SelfDistillRun
from unisd.execution.devices import device_id
from unisd.execution.process import attempt, own_output, record_failure
from unisd.job import Job, stage_function
from unisd.metrics.progress import Progress
from unisd.rundir import RunDir
from unisd.stages import Stage


@dataclass(frozen=True)
class Assignment:
    """What a child process is to do."""

    run: SelfDistillRun
    root: Path
    stage: Stage
    device: int | None
    threads: int
    environment: Mapping[str, str] = field(default_factory=dict)
    """Where its rollout server is, if it has one."""


def carry_out(assignment: Assignment) -> None:
    """Runs the stage and exits with its code; everything printed goes to the stage's log."""
    stand_alone()
    redirect(RunDir(assignment.root).stage(assignment.stage.name) / "log.txt")
    os.environ.update(assignment.environment)
    if assignment.device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device_id(assignment.device)
    with own_output():
        code = run_stage(assignment)
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


def redirect(log: Path) -> None:
    """Sends whatever this process prints to a file."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def run_stage(assignment: Assignment) -> int:
    """Carries out the stage; returns the exit code and leaves failure.json if it is not 0."""
    stage, directory = assignment.stage, RunDir(assignment.root)
    _limit_threads(assignment.threads)
    job = Job(assignment.run, directory, stage.arm, Progress(directory.stage(stage.name) / "progress.json"))
    outcome = attempt(job, stage_function(stage.kind))
    if outcome.reason is not None:
        logging.getLogger(__name__).error("%s: %s", outcome.reason, outcome.message)
        record_failure(job, stage, outcome)
    return outcome.exit_code


def _limit_threads(threads: int) -> None:
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)
