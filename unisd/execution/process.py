"""One stage in one process: whether it is done already, its work, its end, and what is recorded of that.

Called by `unisd STAGE` and by the children of the local runner. Whatever ends a stage becomes an `Outcome` here; who
tells of it, on a screen or to a cluster, is the caller's business.
"""

import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from unisd.execution.masking import mask_output
from unisd.execution.record import begin, finish, is_finished
from unisd.failures import Reason, StageError, is_disk_full
from unisd.files import write_json
from unisd.job import Job, stage_function
from unisd.stages import Stage

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """How a stage ended."""

    reason: Reason | None = None
    """Why it failed; None if it did not."""
    message: str = ""
    exit_code: int = 0


class Stopped(BaseException):
    """SIGTERM came. No error: nothing between the work and its edge may take it for one."""


def carry_out(job: Job, stage: Stage, writes: bool = True) -> Outcome:
    """Carries out a stage unless it is finished, and records how it ended.

    Args:
        job: the stage with its directory.
        stage: the same, with its hash.
        writes: whether this process keeps the stage's record: one of several that work on it does.
    """
    if is_finished(job.directory, stage):
        logger.warning("%s is finished: its result stands", stage.name)
        return Outcome()

    def work(job: Job) -> None:
        started = time.monotonic()
        if writes:
            begin(job.directory, stage)
        stage_function(stage.kind)(job)
        if writes:
            finish(job.directory, stage, time.monotonic() - started)

    outcome = attempt(job, work)
    if outcome.reason is not None:
        record_failure(job, stage, outcome)
    return outcome


def attempt(job: Job, work: Callable[[Job], None]) -> Outcome:
    """A stage's work, and how it ended."""
    try:
        work(job)
    except Stopped:
        return stopped()
    except StageError as error:
        return failure(error)
    except Exception as error:  # the edge of a process: whatever it was is reported, not lost
        logger.exception("unforeseen")
        if is_disk_full(error, job.directory.root):
            text = f"no room left in {job.directory.root}: free or add space and run again"
            return failure(StageError("StorageFull", text))
        return failure(StageError("NonZeroExit", f"{type(error).__name__}: {error}"))
    return Outcome()


def failure(error: StageError) -> Outcome:
    """A failure with its exit code."""
    return Outcome(error.reason, str(error), error.exit_code)


def stopped() -> Outcome:
    """The end of a stage that was told to stop and has nothing to go on from."""
    return failure(StageError("Interrupted", "stopped by SIGTERM; the next attempt begins this stage anew"))


def record_failure(job: Job, stage: Stage, outcome: Outcome) -> None:
    """Leaves failure.json; where the disk has no room for it, the exit code tells.

    Of several pods that fail together the one that knows why counts, whenever it comes.
    """
    path = job.directory.stage(stage.name) / "failure.json"
    with contextlib.suppress(OSError):
        if outcome.reason == "NonZeroExit" and path.exists():
            return
        told = {"reason": outcome.reason, "message": outcome.message, "exitCode": outcome.exit_code}
        write_json(path, told)


@contextmanager
def own_output() -> Iterator[None]:
    """Within it this process logs to its standard error, and nothing that it says holds a secret."""
    before = sys.stdout, sys.stderr
    mask_output()
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


@contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """Within it SIGTERM ends a stage with its exit code; the first process of a container would ignore it otherwise."""

    def stop(*_signal: object) -> None:
        raise Stopped

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def attempt_number() -> int | None:
    """The attempt that this process is part of: in a pod the operator's count, elsewhere none."""
    given = os.environ.get("UNISD_ATTEMPT")
    return int(given) if given else None


def keeps_the_record() -> bool:
    """Whether this is the first of the pods that train together, or the only one."""
    return os.environ.get("PET_NODE_RANK", "0") == "0"
