"""Raw rows of a task: from the hub at a known commit, or from local files in the same published schema.

Called by every task. Errors name file, line and field. Splits and samples are pure functions of ids and a seed.
"""

import hashlib
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from unisd.config.task import Source
from unisd.config.task import Task as TaskConfig
from unisd.hub import not_to_be_had
from unisd.tasks.types import HubDataset, Split

logger = logging.getLogger(__name__)
Raw = dict[str, Any]
_EVAL_FILES = ("test.jsonl", "validation.jsonl")
_EVAL_SPLITS = ("test", "validation")
_EVAL_SHARE = 0.1
_COMMIT = re.compile("[0-9a-f]{40}")


@dataclass(frozen=True)
class RawRow:
    """One row and where it came from."""

    where: str
    """File and line, for messages."""
    values: Raw

    def field(self, name: str, kind: type | tuple[type, ...] = str) -> Any:
        """A required field of a type. Raises ValueError naming file, line and field."""
        if self.values.get(name) is None:
            given = sorted(known for known, value in self.values.items() if value is not None)
            raise ValueError(f"{self.where}: field {name!r} is missing; it has {', '.join(given)}")
        value = self.values[name]
        if not isinstance(value, kind):
            wanted = kind.__name__ if isinstance(kind, type) else " or ".join(option.__name__ for option in kind)
            raise ValueError(f"{self.where}: field {name!r} should be {wanted}, got {value!r}")
        return value

    def text(self, name: str) -> str:
        """A required text that says something. Raises ValueError naming file, line and field."""
        value: str = self.field(name)
        if not value.strip():
            raise ValueError(f"{self.where}: field {name!r} is empty")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A required list of texts. Raises ValueError naming file, line and field."""
        values = self.field(name, list)
        if not all(isinstance(value, str) for value in values):
            raise ValueError(f"{self.where}: field {name!r} should hold texts, got {values!r}")
        return tuple(values)

    def optional(self, name: str) -> str:
        """A text that may be missing or null, which is empty then. Raises ValueError for what is no text."""
        return "" if self.values.get(name) is None else str(self.field(name))


def load_rows(source: Source | None, hub: HubDataset | None, split: Split, seed: int) -> list[RawRow]:
    """All rows of a split.

    A folder holds `train.jsonl` and `test.jsonl` (or `validation.jsonl`). A single file is split by its rows' `_split`
    field if they have one; otherwise a tenth of it, chosen by a hash of each row and the seed, is the evaluation split.

    Raises:
        ValueError: nothing there, nothing in it, or a row that is no JSON object.
        StageError: NonZeroExit, if the hub cannot be reached now.
    """
    if source is not None and source.path is not None:
        return _local(Path(source.path), split, seed, whole=hub is not None and hub.held_out)
    published = hub_of(source, hub)
    if published is None:
        raise ValueError("spec.task.source: this task has no dataset of its own; give a path or a hub id")
    return _hub(published, split)


def hub_of(source: Source | None, own: HubDataset | None) -> HubDataset | None:
    """The hub dataset that rows come from; None for rows from elsewhere."""
    if source is None:
        return own
    return None if source.hub is None else hub_dataset(source.hub, source.revision, own)


def hub_dataset(name: str, revision: str | None, own: HubDataset | None) -> HubDataset:
    """What a manifest's hub id means; the task's own dataset keeps its configuration and, unless given, its commit."""
    published = own if own is not None and own.name == name else HubDataset(name, "test")
    return replace(published, revision=revision or published.revision)


def _local(path: Path, split: Split, seed: int, *, whole: bool) -> list[RawRow]:
    if not path.exists():
        raise ValueError(f"spec.task.source.path: {path} does not exist")
    if path.is_file():
        return _read(path) if whole else _divided(_read(path), split, seed)
    names = ("train.jsonl",) if split == "train" else _EVAL_FILES
    for name in names:
        if (path / name).is_file():
            return _read(path / name)
    raise ValueError(f"spec.task.source.path: {path} holds no {' or '.join(names)}")


def _read(path: Path) -> list[RawRow]:
    rows = []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            try:
                values = json.loads(line.decode("utf-8-sig"))
                json.dumps(
                    values, ensure_ascii=False
                ).encode()  # half of a character, as JSON may escape it, is no text
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{where}: is not JSON ({error}); rows are one JSON object a line") from None
            if not isinstance(values, dict):
                raise ValueError(f"{where}: should be a JSON object, got {values!r}")
            rows.append(RawRow(where, values))
    if not rows:
        raise ValueError(f"{path}: holds no rows")
    return rows


def _divided(rows: Sequence[RawRow], split: Split, seed: int) -> list[RawRow]:
    if any("_split" in row.values for row in rows):
        wanted = ("train",) if split == "train" else _EVAL_SPLITS
        kept = [row for row in rows if row.values.get("_split") in wanted]
    else:
        held_out = {
            row.where for row in rows if stable_fraction(json.dumps(row.values, sort_keys=True), seed) < _EVAL_SHARE
        }
        kept = [row for row in rows if (row.where in held_out) == (split == "eval")]
    if not kept:
        told = sorted({str(row.values["_split"]) for row in rows if "_split" in row.values})
        why = f"; its field '_split' says {', '.join(told)}" if told else " among so few"
        raise ValueError(f"{rows[0].where.rpartition(':')[0]}: has no rows for the {split} split{why}")
    return kept


def pinned(config: TaskConfig, own: HubDataset | None) -> TaskConfig:
    """A task at the commit that its hub dataset has now, so that all its rows are of one; others as they are.

    Raises:
        ValueError, StageError: as `load_rows`.
    """
    hub = hub_of(config.source, own)
    if hub is None:
        return config
    return config.model_copy(update={"source": Source(hub=hub.name, revision=_commit(hub))})


def _commit(hub: HubDataset) -> str:
    """The commit of a dataset's branch or tag; that of its main branch is told, so that it can be pinned."""
    if hub.revision is not None and _COMMIT.fullmatch(hub.revision):
        return hub.revision
    from httpx2 import HTTPError
    from huggingface_hub import HfApi

    try:
        commit = str(HfApi().dataset_info(hub.name, revision=hub.revision).sha)
    except (HTTPError, OSError, ValueError) as error:
        raise _refused(hub, error) from None
    if hub.revision is None:
        logger.warning(
            "%s is taken at commit %s; set task.source.revision to it to have the same rows again", hub.name, commit
        )
    return commit


def _refused(hub: HubDataset, error: Exception) -> Exception:
    said = (
        f"spec.task.source: {hub.name} cannot be loaded ({type(error).__name__}): check the network and HF_TOKEN, "
        "or give rows in the same schema as source.path"
    )
    return not_to_be_had(said, error)


def _hub(hub: HubDataset, split: Split) -> list[RawRow]:
    from datasets import load_dataset
    from httpx2 import HTTPError

    revision = _commit(hub)
    try:
        splits = load_dataset(hub.name, hub.config, revision=revision)
    except (HTTPError, OSError, ValueError) as error:
        raise _refused(hub, error) from None
    names = ("train",) if split == "train" else tuple(dict.fromkeys((hub.eval_split, *_EVAL_SPLITS)))
    wanted = next((name for name in names if name in splits), None)
    if wanted is None:
        raise ValueError(f"spec.task.source.hub: {hub.name} has no split {' or '.join(names)}; it has {list(splits)}")
    table = without_pictures(splits[wanted])
    return [RawRow(f"{hub.name}@{revision}/{wanted}:{number}", dict(row)) for number, row in enumerate(table)]


def without_pictures(table: Any) -> Any:
    """A table whose images stay the files that they are: whether there is one matters, not what it shows."""
    from datasets import Image

    for name, feature in table.features.items():
        if isinstance(feature, Image):
            table = table.cast_column(name, Image(decode=False))
    return table


def stable_fraction(text: str, seed: int) -> float:
    """A number in [0, 1) that depends on text and seed alone, on any machine."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0{text}".encode()).digest()[:8]) / 2**64


class Identified(Protocol):
    """Whatever has an id."""

    @property
    def id(self) -> str: ...


T = TypeVar("T", bound=Identified)


def sampled(items: Sequence[T], config: TaskConfig, split: Split) -> list[T]:
    """As many items of a split as the task is to have, in their order.

    Those whose ids hash lowest under the task's seed, so that a larger sample holds a smaller.
    """
    limit = config.max_train_examples if split == "train" else config.max_eval_examples
    if limit is None or limit >= len(items):
        return list(items)
    ranked = sorted(range(len(items)), key=lambda index: (stable_fraction(items[index].id, config.seed), index))
    return [items[index] for index in sorted(ranked[:limit])]


def content_ids(rows: Sequence[RawRow], *fields: str) -> list[str]:
    """Ids for rows that were published without: a hash of what stands in some fields, and a number where it stands
    there again."""
    seen: dict[str, int] = {}
    ids = []
    for row in rows:
        text = "".join(str(row.values.get(field)) for field in fields)
        identity = hashlib.sha256(text.encode()).hexdigest()[:16]
        seen[identity] = seen.get(identity, 0) + 1
        ids.append(identity if seen[identity] == 1 else f"{identity}-{seen[identity]}")
    return ids


def check_unique(pairs: Sequence[tuple[str, str]]) -> None:
    """Raises ValueError for the first id that stands twice; pairs are (id, where)."""
    seen: dict[str, str] = {}
    for identity, where in pairs:
        if identity in seen:
            raise ValueError(f"{where}: id {identity!r} was used at {seen[identity]} already; ids must be unique")
        seen[identity] = where
