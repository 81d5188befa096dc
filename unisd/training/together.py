"""What the processes of a training tell each other. Every call is collective: all make it, in the same order."""

from typing import Any

from accelerate.utils import gather_object


def gather(accelerator: Any, values: list[Any]) -> list[list[Any]]:
    """The lists of all processes, in order of rank."""
    if accelerator.num_processes == 1:
        return [values]
    gathered: list[list[Any]] = gather_object([values])
    return gathered


def most(accelerator: Any, value: int) -> int:
    """The largest of all processes' numbers."""
    return int(max(part[0] for part in gather(accelerator, [value])))


def summed(accelerator: Any, value: float) -> float:
    """The sum of all processes' numbers."""
    return float(sum(part[0] for part in gather(accelerator, [value])))
