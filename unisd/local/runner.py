"""The local runner: a run's stages as processes, in dependency order, on the devices of one machine.

Finished stages are recognised by their hash and skipped. A failed component is reported while the others go on. Ctrl-C
asks the running stages to stop, which lets training write a checkpoint; the next call goes on from there.
"""

import fcntl
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from unisd.config.load import plain
from unisd.config.run import SelfDistillRun
from unisd.execution.record import begin, finish, is_finished
from unisd.failures import StageError, is_disk_full, reason_of
from unisd.files import read_json, write_json
from unisd.local.child import Assignment, carry_out
from unisd.local.servers import Servers, uses_servers, vllm_program
from unisd.local.state import ENDED, StageState, log_tail, refresh
from unisd.rundir import RunDir
from unisd.stages import CLOSING, Stage

_POLL_SECONDS = 0.2
_GRACE_SECONDS = 60.0
Show = Callable[[Sequence[StageState]], None]


@dataclass(frozen=True)
class Options:
    """How to use this machine."""

    devices: int = 0
    """GPUs; 0 means that stages share the CPU."""
    parallelism: int = 1
    """Components at once."""
    per_device: int = 1
    """Components that may share one GPU: small models leave most of it idle."""
    work: Callable[[Assignment], None] = carry_out
    """What a child process does."""
    preload: tuple[str, ...] = ("unisd.local.preload",)
    """Modules of the warm process that children are forked from."""

    @property
    def slots(self) -> int:
        """Stages at once."""
        return min(self.parallelism, self.devices * self.per_device) if self.devices else self.parallelism

    @property
    def sharing(self) -> int:
        """Stages at once on one device, or on the CPU."""
        return -(-self.slots // max(1, self.devices))

    @property
    def threads(self) -> int:
        """CPU threads of a stage."""
        return max(1, len(os.sched_getaffinity(0)) // self.slots)


@dataclass
class _Running:
    state: StageState
    process: ForkServerProcess


@dataclass
class Runner:
    """One run on this machine."""

    run: SelfDistillRun
    directory: RunDir
    stages: Sequence[Stage]
    options: Options
    show: Show
    states: list[StageState] = field(init=False)
    _running: list[_Running] = field(init=False, default_factory=list)
    _interrupts: int = field(init=False, default=0)
    _stopped_at: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.states = [StageState(stage) for stage in self.stages]

    def to_end(self) -> list[StageState]:
        """Runs whatever is not finished; returns the state of every stage.

        Raises:
            StageError: Busy, if another run works in the directory; StorageFull, if the disk has no room; BadInput, if
                the run needs vLLM and there is none.
        """
        if any(uses_servers(self.run.spec, stage) for stage in self.stages):
            vllm_program()
        self.directory.root.mkdir(parents=True, exist_ok=True)
        with _locked(self.directory.root), self._interruptible():
            try:
                self._work()
            except OSError as error:
                if not is_disk_full(error, self.directory.root):
                    raise
                raise StageError(
                    "StorageFull", f"no room left in {self.directory.root}: free or add space; the next run goes on"
                ) from error
        return self.states

    def _work(self) -> None:
        write_json(self.directory.manifest, plain(self.run))
        context: Any = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(self.options.preload))
        with closing(Servers(self.run, self.directory, context, self.options.sharing)) as servers:
            while not all(state.phase in ENDED for state in self.states):
                self._collect(servers)
                self._start_ready(context, servers)
                self.show(self.states)
                time.sleep(_POLL_SECONDS if self._running else 0.0)
        self.show(self.states)

    # -- starting

    def _start_ready(self, context: Any, servers: Servers) -> None:
        for state in self.states:
            if state.phase != "waiting":
                continue
            if self._stopped_at is not None:
                state.phase = "stopped"
            elif self._blocked(state):
                state.phase = "blocked"
            elif not self._ready(state):
                continue
            elif is_finished(self.directory, state.stage):
                state.phase = "skipped"
            elif len(self._running) < self.options.slots:
                self._start(context, state, servers)

    def _phase(self, name: str) -> str:
        return next(state.phase for state in self.states if state.stage.name == name)

    def _blocked(self, state: StageState) -> bool:
        return any(self._phase(name) in ("failed", "blocked", "stopped") for name in state.stage.needs)

    def _ready(self, state: StageState) -> bool:
        done = all(self._phase(name) in ("finished", "skipped") for name in state.stage.needs)
        return done and all(self._phase(name) in ENDED for name in state.stage.optional_needs)

    def _start(self, context: Any, state: StageState, servers: Servers) -> None:
        begin(self.directory, state.stage)
        taken = [running.state.device for running in self._running]
        state.device = min(range(self.options.devices), key=taken.count, default=None)
        found = servers.environment(state.stage, state.device)
        assignment = Assignment(self.run, self.directory.root, state.stage, state.device, self.options.threads, found)
        process = context.Process(target=self.options.work, args=(assignment,), name=state.stage.name)
        process.start()
        state.phase, state.started = "running", time.monotonic()
        self._running.append(_Running(state, process))

    # -- ending

    def _collect(self, servers: Servers) -> None:
        for running in list(self._running):
            refresh(self.directory, running.state)
            self._enforce_limits(running, servers)
            if running.process.is_alive():
                continue
            running.process.join()
            self._running.remove(running)
            self._end(running.state, running.process.exitcode or 0)

    def _enforce_limits(self, running: _Running, servers: Servers) -> None:
        lost = servers.failure(running.state.stage, running.state.device)
        if lost and self._stopped_at is None:
            running.state.failure = running.state.failure or lost
            running.process.kill()
        deadline = self.run.spec.active_deadline_seconds
        if running.state.stage.arm and deadline and running.state.seconds > deadline and not running.state.failure:
            message = f"took longer than spec.activeDeadlineSeconds of {deadline}"
            running.state.failure = {"reason": "DeadlineExceeded", "message": message}
            running.process.kill()
        if self._stopped_at is not None and time.monotonic() - self._stopped_at > _GRACE_SECONDS:
            running.process.kill()

    def _end(self, state: StageState, code: int) -> None:
        folder = self.directory.stage(state.stage.name)
        if code == 0:
            finish(self.directory, state.stage, state.seconds)
            state.phase = "finished"
            return
        if self._stopped_at is not None:
            state.phase = "stopped"
            return
        state.phase = "failed"
        state.failure = self._failure(state, folder, code)
        write_json(folder / "failure.json", state.failure)
        if self.run.spec.failure_policy == "FailFast":
            self._stop()

    def _failure(self, state: StageState, folder: Path, code: int) -> dict[str, Any]:
        told = state.failure or (
            read_json(folder / "failure.json")
            if (folder / "failure.json").is_file()
            else {
                "reason": "Killed" if code < 0 else reason_of(code),
                "message": f"killed by signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}",
            }
        )
        return {**told, "exitCode": code, "logTail": log_tail(folder / "log.txt")}

    # -- interrupting

    def _stop(self) -> None:
        """Asks every running stage to stop."""
        self._stopped_at = self._stopped_at or time.monotonic()
        for running in self._running:
            running.process.terminate()

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        def interrupted(*_signal: object) -> None:
            self._interrupts += 1
            if self._interrupts > 1:
                for running in self._running:
                    running.process.kill()
            self._stop()

        before = {number: signal.signal(number, interrupted) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @property
    def interrupted(self) -> bool:
        """Whether somebody asked the run to stop."""
        return self._interrupts > 0


def succeeded(run: SelfDistillRun, states: Sequence[StageState]) -> bool:
    """Whether enough components were trained and evaluated, by the run's success policy."""
    arms = [state.phase in ("finished", "skipped") for state in states if state.stage.kind == "evaluate"]
    closed = all(state.phase in ("finished", "skipped") for state in states if state.stage.kind in CLOSING)
    policy = run.spec.success_policy
    needed = {"All": len(arms), "Any": 1, "AtLeast": policy.count or len(arms)}[policy.type]
    return closed and sum(arms) >= needed


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Holds the directory for this process; the lock goes with the process, however it ends."""
    path = root / "lock"
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise StageError(
                "Busy", f"{root} is in use by process {file.read().strip()}: wait for it, or give another --directory"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
