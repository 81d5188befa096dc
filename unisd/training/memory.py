"""When memory runs out: the same step again in smaller passes, so that what is learnt stays the same.

A step's rows, and with them its loss, do not depend on how it is cut into passes: half the rows a pass are twice the
passes a step. One of several processes cannot begin a step anew while the others wait in the middle of it: it leaves a
note, by which the next attempt begins with smaller passes. Called by the loop of training; knows no model.
"""

from collections.abc import Iterable
from pathlib import Path

import torch

from unisd.config.training import Training
from unisd.files import read_json, write_json

_NOTE = "memory.json"


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that memory ran out: a GPU's, or this machine's."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def smaller(size: int, halvings: int) -> int:
    """A number of rows or tokens after so many halvings; at least 1."""
    return max(1, size >> halvings)


def in_words(training: Training, halvings: int) -> str:
    """What became of the passes of a step."""
    rows, passes = training.per_device_batch_size, training.gradient_accumulation_steps
    now = smaller(rows, halvings)
    return (
        f"memory ran out: passes of {now} rows in place of {rows}, {-(-rows * passes // now)} a step in place of "
        f"{passes}; a step has the same rows as before"
    )


def leave_note(directory: Path, halvings: int) -> None:
    """Has the trainings that go on from a directory's begin with passes that were halved so often."""
    write_json(directory / _NOTE, {"halvings": halvings})


def noted(directories: Iterable[Path]) -> int:
    """The most halvings that a note in some directories asks for; 0 without any."""
    notes = [directory / _NOTE for directory in directories]
    return max((int(read_json(note)["halvings"]) for note in notes if note.is_file()), default=0)
