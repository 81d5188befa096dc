"""The training stage as one process or several: alone, or as torchrun's agent with a worker a GPU.

The stage `train` begins here, in pods and on one machine. SIGTERM does not reach the workers, whom torchrun
would kill: they find a file, agree to stop, write their checkpoint together and end by themselves. What they ended with
comes back as files, since torchrun answers 1 for every exit code. What a worker does is `unisd.execution.worker`'s.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from unisd.config.load import plain
from unisd.execution.devices import visible_devices
from unisd.failures import StageError
from unisd.files import read_json, write_json
from unisd.job import Job
from unisd.training.stop import STOP_FILE

logger = logging.getLogger(__name__)
_PATIENCE = 0.2


def train(job: Job) -> None:
    """Trains one component, in as many processes as its manifest, or its pod, says.

    Raises:
        StageError: whatever the first process that failed ended with.
    """
    processes = _processes(job)
    if processes == 1 and int(os.environ.get("PET_NNODES", "1")) == 1:
        from unisd.train import train as alone

        alone(job)
        return
    with TemporaryDirectory(prefix="unisd-train-") as name:
        folder = Path(name)
        told = {"run": plain(job.run), "root": str(job.directory.root.absolute()), "attempt": job.directory.attempt}
        write_json(folder / "job.json", {**told, "arm": job.required_arm.name})
        agent = _Torchrun(folder, processes)
        with _stop_file(folder):
            agent.start()
            while agent.is_alive():
                agent.join(_PATIENCE)
        agent.raise_failure()


def _processes(job: Job) -> int:
    """Processes of this machine: torchrun's own environment says how many in a pod."""
    given = os.environ.get("PET_NPROC_PER_NODE")
    if given is not None:
        return int(given)
    wanted, devices = job.spec.trainer.num_proc_per_node, len(visible_devices())
    if devices and wanted > devices:
        logger.warning("%d GPUs for spec.trainer.numProcPerNode: %d: a process a GPU trains", devices, wanted)
        return devices
    return wanted


@contextmanager
def _stop_file(folder: Path) -> Iterator[None]:
    """SIGTERM leaves the file that asks the workers to stop; before there are any, it ends the stage at once."""

    def stop(*_signal: object) -> None:
        (folder / "stop").touch()
        if not any(folder.glob("started-*")):
            raise StageError(
                "Interrupted", "stopped before its processes began; the next run starts where this one did"
            )

    os.environ[STOP_FILE] = str(folder / "stop")
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        del os.environ[STOP_FILE]


class _Torchrun(threading.Thread):
    """torchrun's agent, in a thread: it may wait for other pods where no signal's handler would run."""

    def __init__(self, folder: Path, processes: int) -> None:
        super().__init__(name="torchrun", daemon=True)
        self._folder, self._processes = folder, processes
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            _torchrun(self._folder, self._processes)
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            self._error = error

    def raise_failure(self) -> None:
        """Raises what the first process that failed ended with, if any did."""
        failures = getattr(self._error, "failures", None)
        if failures:
            raise first_failure(self._folder, {rank: failure.exitcode for rank, failure in failures.items()})
        if self._error is not None:
            raise self._error


def _torchrun(folder: Path, processes: int) -> None:
    """One generation of workers, never a second: attempts are the operator's."""
    from torch.distributed.launcher.api import elastic_launch
    from torch.distributed.run import config_from_args, parse_args

    logging.getLogger("torch.distributed.elastic.multiprocessing.api").setLevel(logging.ERROR)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // processes)))
    once = ["--max-restarts", "0", "--monitor-interval", "0.1", "--nproc-per-node", str(processes)]
    # In a pod the rendezvous stands in PET_*; on one machine any free port will do.
    alone = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "--rdzv-id", folder.name]
    where = [] if "PET_MASTER_ADDR" in os.environ else alone
    given = parse_args([*once, *where, "-m", "unisd.execution.worker", str(folder)])  # type: ignore[no-untyped-call]
    config, command, arguments = config_from_args(given)
    elastic_launch(config, command)(*arguments)


def first_failure(folder: Path, exit_codes: Mapping[int, int]) -> StageError:
    """The failure that the others follow from: one that a worker told, then one that was killed, then what a worker
    says of a connection that it lost.

    Args:
        folder: where workers left what they ended with.
        exit_codes: of the processes that failed, by rank; negative for signals.
    """
    told: dict[int, Any] = {
        rank: read_json(path) for rank in exit_codes if (path := folder / f"failure-{rank}.json").is_file()
    }
    rank = min(exit_codes, key=lambda rank: (2 * told[rank]["follows"] if rank in told else 1, _time(told, rank)))
    if rank in told:
        words = told[rank]
        return StageError(words["reason"], words["message"])
    code = exit_codes[rank]
    if code >= 0:
        return StageError("NonZeroExit", f"process {rank} of the training ended with code {code}: see its log")
    killer = signal.Signals(-code).name
    return StageError("NonZeroExit", f"process {rank} of the training was killed by {killer}", exit_code=128 - code)


def _time(told: Mapping[int, Any], rank: int) -> float:
    return float(told[rank]["time"]) if rank in told else time.time()
