"""The outside of the sandbox: programs in, verdicts out, several at once.

Each program gets a fresh judge (`judge.py`), a process that isolates itself and forks the worker that runs the program.
The verdict comes over a pipe that the worker never holds; past the wall-clock limit the whole group is killed.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from unisd.tasks.sandbox.groups import groups, join

Outcome = Literal["passed", "failed", "error", "timeout", "crashed"]
_JUDGE = Path(__file__).with_name("judge.py")


@dataclass(frozen=True)
class Program:
    """A generated program and the tests that judge it."""

    source: str
    tests: tuple[str, ...]
    setup: str = ""
    """Code that runs before program and tests, e.g. imports."""
    entry: tuple[str, ...] = ()
    """Names that tests take from the program even where a builtin has the same name."""


@dataclass(frozen=True)
class Limits:
    """What one program may use."""

    seconds: float = 10.0
    """Wall-clock time, and CPU time of each process."""
    memory_mib: int = 512
    file_mib: int = 8
    processes: int = 16
    output_bytes: int = 65536
    """What is read of a program's messages."""


@dataclass(frozen=True)
class Verdict:
    """What became of a program."""

    outcome: Outcome
    message: str = ""

    @property
    def passed(self) -> bool:
        """Whether every test passed."""
        return self.outcome == "passed"


DEFAULT_LIMITS = Limits()


def run_programs(programs: Sequence[Program], limits: Limits = DEFAULT_LIMITS, workers: int = 2) -> list[Verdict]:
    """Verdicts of all programs, in order; `workers` run at once."""
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda program: _run(program, limits), programs))


def isolation() -> list[str]:
    """The layers of isolation that are in force on this machine."""
    _, layers = _judge(Program(source="", tests=()), DEFAULT_LIMITS)
    return layers


def _run(program: Program, limits: Limits) -> Verdict:
    return _judge(program, limits)[0]


def _judge(program: Program, limits: Limits) -> tuple[Verdict, list[str]]:
    if not program.tests and program.source:
        return Verdict("error", "there are no tests"), []
    scratch = tempfile.mkdtemp(prefix="unisd-sandbox-")
    reading, writing = os.pipe()
    bounds = {"pids": limits.processes + 4, "memory": 2 * limits.memory_mib << 20}
    try:
        with groups(Path(scratch).name, bounds) as made:
            process = _started(writing, scratch)
            controllers = [name for group, names in made.items() if join(group, process.pid) for name in names]
            request = json.dumps({"program": asdict(program), "limits": asdict(limits), "uid": _uid()})
            late = _await(process, request.encode(), limits.seconds)
        with os.fdopen(reading, "rb") as pipe:
            told = pipe.read(limits.output_bytes)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if late:
        return Verdict("timeout", f"took longer than {limits.seconds} s"), []
    verdict, layers = _verdict(told)
    return verdict, [*layers, f"control groups: {', '.join(controllers)}"] if layers and controllers else layers


def _started(writing: int, scratch: str) -> "subprocess.Popen[bytes]":
    """A judge that waits for its request."""
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", str(_JUDGE), str(writing), scratch],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(writing,),
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
            start_new_session=True,
        )
    finally:
        os.close(writing)


def _uid() -> int:
    """The user that programs run as where the sandbox may choose: one that owns nothing."""
    return 65_000 + os.getpid() % 500


def _await(process: "subprocess.Popen[bytes]", request: bytes, seconds: float) -> bool:
    """Waits for the judge and kills its whole group; whether it took too long."""
    try:
        process.communicate(request, timeout=seconds)
        return False
    except subprocess.TimeoutExpired:
        return True
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _verdict(told: bytes) -> tuple[Verdict, list[str]]:
    try:
        values = json.loads(told)
    except ValueError:
        return Verdict("crashed", "the judge ended without a verdict"), []
    return Verdict(values["outcome"], values["message"]), values["layers"]
