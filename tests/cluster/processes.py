"""Processes that end together, whatever happens to the one that started them.

All are in one process group under a janitor, a shell that waits for the end of a pipe whose other end the starter
holds. When the starter is gone, the janitor kills the group and removes its folder, and the control groups of that
name. Knows nothing of Kubernetes.
"""

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.cluster.waiting import PATIENCE

# A control group can be removed once its last process is gone, which takes a moment longer than killing it.
CLEAN = """
for _ in $(seq 100); do
    groups=$(find /sys/fs/cgroup -depth -type d -path "*/${1##*/}*" 2>/dev/null)
    [ -n "$groups" ] || break
    rmdir $groups 2>/dev/null || sleep 0.1
done
rm -rf -- "$1"
"""
# $$ is the group; what kills it must be out of it.
JANITOR = """read -r _; exec setsid -f sh -c 'kill -s KILL -- "-$0"; sleep 0.1; eval "$2"' "$$" "$0" "$1" """


class Process:
    """A running program and its log; can be killed and started again."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], folder: Path, group: int):
        self.name = name
        self.command = [str(part) for part in command]
        self._environment = dict(environment)
        self._log = folder / "logs" / f"{name}.log"
        self._group = group
        self._popen = self._start()

    @property
    def pid(self) -> int:
        """Process id of the present incarnation."""
        return self._popen.pid

    def alive(self) -> bool:
        """Whether it still runs."""
        return self.code() is None

    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._popen.poll()

    def signal(self, number: int) -> None:
        """Sends a signal to it alone."""
        self._popen.send_signal(number)

    def kill(self) -> None:
        """Ends it by SIGKILL and waits for that."""
        self._popen.kill()
        self._popen.wait()

    def stop(self, within: float = PATIENCE) -> int:
        """Ends it by SIGTERM and returns its exit code; raises `TimeoutExpired` if it does not end."""
        self._popen.terminate()
        return self.wait(within)

    def wait(self, within: float = PATIENCE) -> int:
        """The exit code, once it has ended."""
        return self._popen.wait(within)

    def restart(self) -> None:
        """Kills it if it runs and starts it anew; its log goes on."""
        self.kill()
        self._popen = self._start()

    def log(self) -> str:
        """All it has printed so far, over all its incarnations."""
        return self._log.read_text(errors="replace")

    def _start(self) -> "subprocess.Popen[bytes]":
        with self._log.open("ab") as output:
            return subprocess.Popen(
                self.command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=self._group,
            )


class Household:
    """A temporary folder and the processes that live in it."""

    def __init__(self, prefix: str):
        self.folder = Path(tempfile.mkdtemp(prefix=prefix))
        (self.folder / "logs").mkdir()
        self.processes: dict[str, Process] = {}
        self._janitor = subprocess.Popen(
            ["sh", "-c", JANITOR, str(self.folder), CLEAN],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            process_group=0,
        )

    def start(self, name: str, *command: str | Path, env: Mapping[str, str] | None = None) -> Process:
        """Starts a program; `env` is added to the environment of this process."""
        assert name not in self.processes, f"{name} is running: use restart()"
        words = [str(part) for part in command]
        process = Process(name, words, {**os.environ, **(env or {})}, self.folder, self._janitor.pid)
        self.processes[name] = process
        return process

    def close(self) -> None:
        """Kills all at once and removes the folder."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._janitor.pid, signal.SIGKILL)
        for process in self.processes.values():
            process.kill()
        self._janitor.wait()
        assert self._janitor.stdin is not None
        self._janitor.stdin.close()
        subprocess.run(["sh", "-c", CLEAN, "sh", str(self.folder)], check=True)
