"""Plays recorded failures in trainer pods, where it is their `sitecustomize`: a ConfigMap brings it, logs beside it.

The processes of the component `NAME` print `NAME.log` and abort, as the watchdog of torch's process groups does, or
raise its last line if it is named `NAME.raised.log`. Processes of other components, and the launcher, are left alone.
"""

import os
import sys
from pathlib import Path


def play() -> None:
    """Fails as recorded, if this process is one that is to fail."""
    words = Path("/proc/1/cmdline").read_text().split("\0")
    component = words[words.index("--arm") + 1].rpartition("-")[0]
    log, raised = (Path(__file__).with_name(f"{component}{ending}") for ending in (".log", ".raised.log"))
    if log.exists():
        sys.stderr.write(log.read_text())
        sys.stderr.flush()
        os.abort()
    if raised.exists():
        _raise_in_training(raised.read_text().splitlines()[-1])


def _raise_in_training(line: str) -> None:
    from unisd.training.loop import StepLoop

    def fail(_loop: StepLoop) -> None:
        raise RuntimeError(line)

    StepLoop.check_stop = fail  # type: ignore[method-assign]


if "RANK" in os.environ:
    play()
