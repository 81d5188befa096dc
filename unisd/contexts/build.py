"""The contexts stage: every text that the base model has to write before a run's components can train.

Wrong demonstrations for contrastive arms, instructions for arms with induced contexts, samples for the baseline ssd;
each once for the whole run. A kind that cannot be written fails the arms that need it, when they come to train, and no
others. Called through `unisd.job`; `check_written` by training.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from unisd.config.resolve import Arm, resolve
from unisd.contexts import induction
from unisd.contexts.negatives import negatives
from unisd.contexts.samples import samples
from unisd.contexts.texts import NEGATIVES, instructions_name, path_of, samples_name
from unisd.contexts.writer import Writer, writer_for
from unisd.failures import StageError
from unisd.files import Json, read_json, write_json, write_jsonl
from unisd.job import Job
from unisd.prepared import load_examples
from unisd.tasks.catalog import task_for
from unisd.tasks.types import Example

logger = logging.getLogger(__name__)
_RECORD = "contexts.json"
_Tell = Callable[[int], None]


@dataclass(frozen=True)
class _Kind:
    """Texts of one kind."""

    most: int
    """How many there can be."""
    write: Callable[[_Tell], Json]
    """Writes them, telling how many are done; gives what to record."""


def build(job: Job) -> None:
    """Writes negatives.jsonl, instructions-D.jsonl and samples-ARM.jsonl, as far as arms need them, and contexts.json.

    Raises:
        StageError: BadInput, where no kind that arms need could be written.
    """
    with writer_for(job) as writer:
        kinds = _kinds(job, writer)
        parts = job.progress.parts(sum(kind.most for kind in kinds.values()))
        failed: dict[str, str] = {}
        record: Json = {"failed": failed}
        for name, kind in kinds.items():
            try:
                record |= kind.write(parts.more())
            except StageError as error:
                if error.reason != "BadInput":
                    raise
                failed[name] = str(error)
    if len(failed) == len(kinds):
        raise StageError("BadInput", "; ".join(failed.values()))
    for name, message in failed.items():
        logger.warning("components that need %s cannot train: %s", name, message)
    write_json(job.directory.contexts / _RECORD, record)
    parts.end()


def check_written(job: Job, arm: Arm) -> None:
    """Raises StageError, BadInput, where the stage did not write what an arm needs, or has not been yet."""
    path, names = job.directory.contexts / _RECORD, _needed(arm)
    if names and not path.is_file():
        raise StageError("BadInput", f"{path} is not there: `unisd contexts build` writes what {arm.component} needs")
    for name in names:
        failed = read_json(path)["failed"]
        if name in failed:
            raise StageError("BadInput", f"the stage contexts could not write {name}: {failed[name]}")


def _needed(arm: Arm) -> list[str]:
    """The kinds of texts that an arm needs, by name."""
    kinds = {
        NEGATIVES: arm.objective.contrastive is not None,
        instructions_name(arm.contexts): arm.induces,
        samples_name(arm): arm.method == "ssd",
    }
    return [name for name, needed in kinds.items() if needed]


def _kinds(job: Job, writer: Writer) -> dict[str, _Kind]:
    """Every kind that some arm needs, by name."""
    train = load_examples(job.directory.prepared.train)
    pool = load_examples(job.directory.prepared.pool)
    arms: dict[str, list[Arm]] = {}
    for arm in resolve(job.spec):
        for name in _needed(arm):
            arms.setdefault(name, []).append(arm)
    found = {}
    for name, needing in arms.items():
        if name == NEGATIVES:
            found[name] = _Kind(len(train), partial(_negatives, job, train, writer))
        elif name == instructions_name(needing[0].contexts):
            most = len(pool) // needing[0].contexts.demonstrations_per_context
            found[name] = _Kind(most, partial(_instructions, job, (train, pool), writer, needing))
        else:
            found[name] = _Kind(len(train), partial(_samples, job, train, writer, needing[0]))
    return found


def _negatives(job: Job, train: list[Example], writer: Writer, tell: _Tell) -> Json:
    seed = job.spec.task.seed
    found = negatives(train, task_for(job.spec.task), job.spec.contexts, seed, writer=writer, progress=tell)
    write_jsonl(path_of(job.directory, NEGATIVES), found)
    having = {row["id"] for row in found}
    return {NEGATIVES: len(found), "missing": [example.id for example in train if example.id not in having]}


def _instructions(
    job: Job, rows: tuple[list[Example], list[Example]], writer: Writer, arms: list[Arm], tell: _Tell
) -> Json:
    """Instructions of one size. There must be enough for the arm that wants the fewest; training tells the others."""
    train, pool = rows
    contexts, seed = arms[0].contexts, job.spec.task.seed
    found = induction.instructions(pool, contexts, seed, writer=writer, progress=tell)
    induction.assigned(train, found, min(arm.contexts.count for arm in arms), seed)
    name = instructions_name(contexts)
    write_jsonl(path_of(job.directory, name), found)
    return {name: len(found)}


def _samples(job: Job, train: list[Example], writer: Writer, arm: Arm, tell: _Tell) -> Json:
    kept, counts = samples(train, arm, writer, tell)
    name = samples_name(arm)
    write_jsonl(path_of(job.directory, name), kept)
    return {name: counts}
