"""Reading what the preparation wrote. Used by every stage after it."""

from dataclasses import dataclass
from pathlib import Path

from unisd.failures import StageError
from unisd.files import Json, read_json, read_jsonl
from unisd.rundir import PreparedDir
from unisd.tasks.types import Example


@dataclass(frozen=True)
class Prepared:
    """What the preparation recorded."""

    model: Path
    model_digest: str
    values: Json
    """The whole of prepared.json."""


def load_examples(path: Path) -> list[Example]:
    """Examples as the preparation wrote them."""
    return [_example(row) for row in read_jsonl(path)]


def _example(row: Json) -> Example:
    lists = {name: tuple(row[name]) for name in ("messages", "choices", "tests")}
    return Example(**{**row, **lists})


def load_prepared(directory: PreparedDir) -> Prepared:
    """What `prepare` recorded in a run's prepared/ directory. Raises StageError, BadInput, where it did not yet."""
    if not directory.record.is_file():
        raise StageError(
            "BadInput", f"{directory.record} is not there: carry out the stage prepare first, or the whole run"
        )
    values = read_json(directory.record)
    return Prepared(Path(values["model"]["path"]), values["model"]["digest"], values)
