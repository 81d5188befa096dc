"""A task whose answers are programs: what all tasks of the kind share but for the fields of their rows.

Called by the modules of the single tasks, which say where rows are published and how a row reads as an example.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from unisd.config.task import Task as TaskConfig
from unisd.tasks import code
from unisd.tasks.rows import RawRow, check_unique, load_rows, sampled
from unisd.tasks.types import Example, Grade, HubDataset, NegativeRequest, Split


@dataclass(frozen=True)
class CodeTask:
    """A `Task` of programs with tests."""

    config: TaskConfig
    hub: HubDataset
    """Where the rows are published."""
    example_of: Callable[[RawRow], Example]
    """The example of a row. Raises ValueError for a broken one."""
    instructions: tuple[str, ...]
    metric: str = "pass@1"

    @property
    def name(self) -> str:
        """Name of the task."""
        return self.config.name

    def examples(self, split: Split) -> list[Example]:
        rows = load_rows(self.config.source, self.hub, split, self.config.seed)
        examples = [self.example_of(row) for row in rows]
        check_unique([(example.id, row.where) for example, row in zip(examples, rows, strict=True)])
        return sampled(examples, self.config, split)

    def grade(self, examples: Sequence[Example], completions: Sequence[str]) -> list[Grade]:
        return code.grade(examples, completions)

    def negative_request(self, example: Example) -> NegativeRequest | None:
        return code.negative_request(example, self.config.seed)

    def negative_demonstrations(
        self, asked: Sequence[tuple[Example, NegativeRequest]], generated: Sequence[str]
    ) -> list[str | None]:
        return code.negative_demonstrations(asked, generated)
