"""How a training is asked to stop: by SIGTERM if it is one process, else by a file that all of a pod look at.

torchrun answers every end of its processes with a signal to the others; those must die of SIGTERM, and not take it for
the request to write a checkpoint. So it is their launcher that takes it, and leaves the file.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

STOP_FILE = "UNISD_STOP_FILE"
"""Environment variable of the processes of a training: the file that asks them to stop when it is there."""


@dataclass
class StopFlag:
    """Whether training was asked to stop; looked at between forward passes."""

    file: Path | None = None
    _set: bool = False

    @property
    def raised(self) -> bool:
        """Whether it was."""
        return self._set or (self.file is not None and self.file.exists())

    def set(self, *_signal: object) -> None:
        """Asks training to stop at the next safe moment."""
        self._set = True


@contextmanager
def stop_flag() -> Iterator[StopFlag]:
    """The flag of this process; a signal's handler that was there is put back."""
    file = os.environ.get(STOP_FILE)
    if file is not None:
        yield StopFlag(Path(file))
        return
    stop = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.signal(signal.SIGTERM, stop.set)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)
