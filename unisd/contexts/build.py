"""The contexts stage: every text that the base model has to write before a run's components can train.

Wrong demonstrations for contrastive arms, instructions for arms with induced contexts, samples for the baseline ssd;
each once for the whole run. Called through `unisd.job`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from unisd.config.resolve import Arm, resolve
from unisd.contexts import induction
from unisd.contexts.negatives import negatives
from unisd.contexts.samples import samples
from unisd.contexts.writer import Writer, writer_for
from unisd.job import Job
from unisd.prepared import load_examples
from unisd.rundir import Json, write_json, write_jsonl
from unisd.tasks.catalog import task_for
from unisd.tasks.types import Example


def build(job: Job) -> None:
    """Writes negatives.jsonl, instructions-D.jsonl and samples-ARM.jsonl, as far as arms need them, and contexts.json.

    Raises:
        StageError: BadInput, where too little of what was written will do.
    """
    with writer_for(job) as writer:
        _build(job, writer)


def _build(job: Job, writer: Writer) -> None:
    arms = resolve(job.spec)
    train = load_examples(job.directory.prepared / "train.jsonl")
    pool = load_examples(job.directory.prepared / "pool.jsonl")
    sizes = sorted({arm.contexts.demonstrations_per_context for arm in arms if arm.induces})
    drawing = [arm for arm in arms if arm.method == "ssd"]
    contrastive = any(arm.objective.contrastive for arm in arms)
    counted = _Counted(job, (contrastive + len(drawing)) * len(train) + sum(len(pool) // size for size in sizes))
    record: Json = {}
    if contrastive:
        record |= _negatives(job, train, writer, counted)
    for size in sizes:
        record |= _instructions(job, train, pool, writer, counted, arms=[arm for arm in arms if _asks_for(arm, size)])
    for arm in drawing:
        kept, counts = samples(train, arm, writer, counted.more())
        write_jsonl(job.directory.contexts / f"samples-{arm.name}.jsonl", kept)
        record[f"samples-{arm.name}"] = counts
    write_json(job.directory.contexts / "contexts.json", record)
    counted.end()


@dataclass
class _Counted:
    """Progress over several kinds of text."""

    job: Job
    total: int
    done: int = 0

    def more(self) -> Callable[[int], None]:
        """How the next kind tells what it has done."""
        before = self.done

        def tell(count: int) -> None:
            self.done = before + count
            self.job.progress.update(min(self.done, self.total), self.total)

        return tell

    def end(self) -> None:
        self.job.progress.update(self.total, self.total)


def _asks_for(arm: Arm, size: int) -> bool:
    return arm.induces and arm.contexts.demonstrations_per_context == size


def _negatives(job: Job, train: list[Example], writer: Writer, counted: _Counted) -> Json:
    seed = job.spec.task.seed
    found = negatives(train, task_for(job.spec.task), job.spec.contexts, seed, writer=writer, progress=counted.more())
    write_jsonl(job.directory.contexts / "negatives.jsonl", found)
    having = {row["id"] for row in found}
    return {"negatives": len(found), "missing": [example.id for example in train if example.id not in having]}


def _instructions(
    job: Job, train: list[Example], pool: list[Example], writer: Writer, counted: _Counted, *, arms: list[Arm]
) -> Json:
    contexts, seed = arms[0].contexts, job.spec.task.seed
    found = induction.instructions(pool, contexts, seed, writer=writer, progress=counted.more())
    induction.assigned(train, found, max(arm.contexts.count for arm in arms), seed)
    name = f"instructions-{contexts.demonstrations_per_context}"
    write_jsonl(job.directory.contexts / f"{name}.jsonl", found)
    return {name: len(found)}
