"""Which rows each optimiser step sees: a pure function of seed and epoch.

Every epoch is a new permutation; the last step of an epoch keeps its rows, however few. All epochs lie end to end, so
that a step's number alone says where the data stand, also after a resume and with another number of processes.
"""

import random
from collections.abc import Iterator


class StepSampler:
    """Yields, for each optimiser step, the row numbers of this process."""

    def __init__(self, rows: int, rows_per_step: int, epochs: int, seed: int, max_steps: int | None = None) -> None:
        if rows < 1:
            raise ValueError("there are no rows to train on")
        self._rows, self.rows_per_step, self._seed = rows, rows_per_step, seed
        self._steps_per_epoch = -(-rows // rows_per_step)
        total = epochs * self._steps_per_epoch
        self._total = total if max_steps is None else min(total, max_steps)
        self.rank, self.world = 0, 1

    def __len__(self) -> int:
        return self._total

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self._total):
            rows = self.step_rows(step)
            yield rows[self.first_of_rank(len(rows)) : self.first_of_rank(len(rows), 1)]

    def step_rows(self, step: int) -> list[int]:
        """Row numbers of a whole step, of all processes."""
        epoch, within = divmod(step, self._steps_per_epoch)
        order = list(range(self._rows))
        random.Random(f"{self._seed}/{epoch}").shuffle(order)
        return order[within * self.rows_per_step : (within + 1) * self.rows_per_step]

    def first_of_rank(self, rows: int, offset: int = 0) -> int:
        """Where this process's share of a step's rows begins (offset 1: ends)."""
        return rows * (self.rank + offset) // self.world
