"""Manifests on a pool of GPUs: as many `unisd run` at once as there are GPUs to share, each with its own.

Every run is a process of its own with a log beside its manifest; what is finished it skips itself. Called by
`unisd experiments`; knows nothing of stages.
"""

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

_POLL_SECONDS = 0.2
_PROGRAM = (sys.executable, "-c", "from unisd.cli import main; main()")
Share = tuple[str, ...]


@dataclass(frozen=True)
class Pool:
    """The GPUs of this machine that runs may use."""

    gpus: Sequence[str] = ()
    """Their ids; none means that runs share the CPU."""
    per_device: int = 1
    """Components that may share one GPU."""


@dataclass
class _Running:
    manifest: Path
    share: Share
    process: "subprocess.Popen[bytes]"


def shares(gpus: Sequence[str], runs: int) -> list[Share]:
    """The GPUs divided among so many runs, one or more each; a single share of none without GPUs."""
    if not gpus:
        return [()]
    count = max(1, min(len(gpus), runs))
    return [tuple(gpus[start::count]) for start in range(count)]


def run_all(
    manifests: Sequence[Path], pool: Pool, tell: Callable[[str], None], program: Sequence[str] = _PROGRAM
) -> dict[str, int]:
    """Exit code of every manifest, by its name. Ctrl-C asks the runs to stop, which lets them write checkpoints."""
    free, waiting = shares(pool.gpus, len(manifests)), deque(manifests)
    running: list[_Running] = []
    codes: dict[str, int] = {}
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        while waiting or running:
            while waiting and free:
                running.append(_started(waiting.popleft(), free.pop(0), pool.per_device, program))
                tell(_begun(running[-1]))
            time.sleep(_POLL_SECONDS)
            for ended in [run for run in running if run.process.poll() is not None]:
                running.remove(ended)
                free.append(ended.share)
                codes[ended.manifest.stem] = ended.process.returncode
                tell(_verdict(ended))
    except KeyboardInterrupt:
        for run in running:
            run.process.send_signal(signal.SIGINT)
        for run in running:
            codes[run.manifest.stem] = run.process.wait()
        codes |= {path.stem: signal.SIGINT + 128 for path in waiting}
    finally:
        signal.signal(signal.SIGTERM, before)
    return codes


def _started(manifest: Path, share: Share, per_device: int, program: Sequence[str]) -> _Running:
    command = [*program, "run", "-f", str(manifest), "--directory", str(manifest.with_suffix(""))]
    environment = dict(os.environ)
    if share:
        command += ["--parallelism", str(len(share) * per_device), "--per-device", str(per_device)]
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(share)
    with manifest.with_suffix(".log").open("ab") as log:
        # A session of its own: Ctrl-C in the terminal reaches it through this process alone, and so once.
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    return _Running(manifest, share, process)


def _begun(started: _Running) -> str:
    return f"running   {started.manifest.stem}" + (f"  on GPU {', '.join(started.share)}" if started.share else "")


def _verdict(ended: _Running) -> str:
    code, name = ended.process.returncode, ended.manifest.stem
    if code == 0:
        return f"finished  {name}"
    return f"failed    {name}  with exit code {code}; see {ended.manifest.with_suffix('.log')}"
