"""Parameters that ZeRO-3 keeps in shards, whole for a while.

For everybody who reads or writes a parameter outside of its module's own forward pass: the output layer in a loss,
teachers, checkpoints, exports. A collective call for all processes of a training; where nothing is sharded it does
nothing. Knows no trainer.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import Tensor


def is_sharded(parameter: Tensor) -> bool:
    """Whether ZeRO-3 holds it."""
    return hasattr(parameter, "ds_id")


@contextmanager
def whole(parameters: Iterable[Tensor], *, write: bool = False) -> Iterator[None]:
    """Gathers parameters on every process, and shards them again at the end.

    Args:
        parameters: any; those that are not sharded are left alone.
        write: whether what the first process writes into them is to stay.
    """
    sharded = [parameter for parameter in parameters if is_sharded(parameter)]
    if not sharded:
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(sharded, modifier_rank=0 if write else None):
        yield
