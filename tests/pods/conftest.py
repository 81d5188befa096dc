"""A training in several pods, each a process with the environment that the operator gives one."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from unisd.config.load import plain
from unisd.files import read_jsonl, write_json
from unisd.rundir import RunDir

PATIENCE = 240.0
"""Seconds that a test waits; several processes that import torch take their time on a busy machine."""
ROOT = Path(__file__).parents[2]
MAIN = "import sys\nfrom unisd.cli import main\nmain(sys.argv[1:])"


@dataclass
class Pod:
    """One pod of a training."""

    process: "subprocess.Popen[bytes]"
    place: Path

    @property
    def words(self) -> dict[str, Any]:
        """Its last words."""
        return json.loads((self.place / "words").read_text(encoding="utf-8"))  # type: ignore[no-any-return]

    @property
    def log(self) -> str:
        return (self.place / "log").read_text(encoding="utf-8")

    def ended(self, seconds: float = PATIENCE) -> int:
        """Its exit code, waited for."""
        return self.process.wait(seconds)

    def workers(self) -> list[int]:
        """Processes of the training in it."""
        children = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return sorted(int(pid) for path in children for pid in path.read_text().split())


class Training:
    """The training of an arm, attempt by attempt."""

    def __init__(self, directory: RunDir, root: Path) -> None:
        self.directory, self.root, self.pods = directory, root, []

    def start(self, attempt: int, nodes: int = 2, processes: int = 1, only: int | None = None) -> list[Pod]:
        """Starts the pods of an attempt, or only so many of them."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        started = [self._pod(f"{attempt}", node, nodes, processes, port) for node in range(only or nodes)]
        self.pods += started
        return started

    def _pod(self, attempt: str, node: int, nodes: int, processes: int, port: int) -> Pod:
        place = self.root / f"pod-{attempt}-{node}"
        place.mkdir(exist_ok=True)
        environment = {
            **os.environ,
            "PET_NNODES": str(nodes),
            "PET_NPROC_PER_NODE": str(processes),
            "PET_NODE_RANK": str(node),
            "PET_MASTER_ADDR": "127.0.0.1",
            "PET_MASTER_PORT": str(port),
            "UNISD_ATTEMPT": attempt,
            "UNISD_TERMINATION_LOG": str(place / "words"),
            "TMPDIR": str(place),
            "PYTHONPATH": f"{self.root}:{ROOT}",
            "OMP_NUM_THREADS": "1",
        }
        manifest, root = str(self.directory.manifest), str(self.directory.root)
        arguments = ["train", "-f", manifest, "--directory", root, "--arm", "it-1"]
        with (place / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-c", MAIN, *arguments], stdout=log, stderr=log, env=environment
            )
        return Pod(process, place)

    def at_step(self, attempt: int, step: int) -> None:
        """Waits until an attempt has done a step."""
        metrics = RunDir(self.directory.root, attempt).train("it-1") / "metrics.jsonl"
        self.wait_for(lambda: metrics.is_file() and any(row["step"] >= step for row in read_jsonl(metrics)))

    def wait_for(self, seen: Callable[[], object]) -> None:
        """Waits until something is seen, while all pods live."""
        deadline = time.monotonic() + PATIENCE
        while not seen():
            logs = [pod.log[-2000:] for pod in self.pods]
            assert time.monotonic() < deadline, logs
            assert all(pod.process.poll() in (None, 75) for pod in self.pods), logs
            time.sleep(0.1)


@pytest.fixture
def training(
    make_run: Callable[..., Any], carry_out: Callable[..., None], tmp_path: Path
) -> Iterator[Callable[..., Training]]:
    """Prepares a run of one arm, `it-1`; whatever is still running in the end is killed."""
    made: list[Training] = []

    def make(rows: int = 16, **spec: Any) -> Training:
        run, directory = make_run(rows, components=[{"name": "it", "divergence": {}}], **spec)
        carry_out(run, directory, "prepare")
        write_json(directory.manifest, plain(run))
        made.append(Training(directory, tmp_path))
        return made[-1]

    yield make
    for pod in (pod for training in made for pod in training.pods):
        if pod.process.poll() is None:
            pod.process.send_signal(signal.SIGKILL)
            pod.process.wait()
