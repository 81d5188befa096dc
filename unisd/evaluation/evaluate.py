"""The evaluation stage of one component: greedy completions, grades and what is asked for besides, on held-out rows."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from unisd.card import write_card
from unisd.chat import completion_ids
from unisd.config.resolve import evaluated_tasks
from unisd.config.serving import longest_text
from unisd.evaluation.generate import Generated, completions_of
from unisd.evaluation.items import item_of
from unisd.evaluation.perplexity import Surprisal
from unisd.evaluation.scores import scores_of
from unisd.evaluation.student import LoadedStudent, Student, student_for
from unisd.files import Json, write_json, write_jsonl
from unisd.forward.packed import Ids
from unisd.job import Job
from unisd.metrics.memory import peak_memory_gib
from unisd.metrics.progress import Parts
from unisd.models import load_tokenizer
from unisd.prepared import load_examples, load_prepared
from unisd.rollouts.types import Sampling
from unisd.tasks.catalog import task_for
from unisd.tasks.types import Example, Grade, Task

logger = logging.getLogger(__name__)


def evaluate(job: Job) -> None:
    """Scores one component on every task of the run; writes items-TASK.jsonl and evaluation.json."""
    started = time.monotonic()
    arm, out = job.required_arm, job.directory.evaluate(job.required_arm.name)
    prepared = load_prepared(job.directory.prepared)
    torch.set_num_threads(arm.training.threads or torch.get_num_threads())
    tokenizer = load_tokenizer(prepared.model)
    tasks, scores = {}, []
    with student_for(job, prepared) as student:
        for config in evaluated_tasks(job.spec):
            task = task_for(config)
            examples = load_examples(job.directory.prepared.evaluation(config.name))
            items = _Scoring(job, student, tokenizer, task, examples).items()
            write_jsonl(out / f"items-{config.name}.jsonl", items)
            tasks[config.name] = {"rows": len(items), "metric": task.metric}
            scores += scores_of(config.name, task.metric, items, job.spec.evaluation.passes or [1])
    write_json(
        out / "evaluation.json",
        {"tasks": tasks, "scores": scores, "seconds": time.monotonic() - started, "peakMemoryGiB": peak_memory_gib()},
    )
    if job.required_arm.trains:
        write_card(job.directory.trained(job.required_arm.name) / "adapter", job, prepared, scores)


@dataclass(frozen=True)
class _Scoring:
    """One component on the rows of one task."""

    job: Job
    student: Student
    tokenizer: Any
    task: Task
    examples: list[Example]

    def items(self) -> list[Json]:
        """What was found of each row, in order."""
        wanted, trains = self.job.spec.evaluation, self.job.required_arm.trains
        drawn = (wanted.samples or 0) if self.task.metric != "none" else 0
        passes = 1 + drawn + 2 * wanted.perplexity + (wanted.divergence and trains)
        parts = self.job.progress.parts(passes * len(self.examples))
        found = self._completions(1, 0.0, parts)
        grades = self.task.grade(self.examples, [completion.text for completion in found])
        items = [_item(*triple) for triple in zip(self.examples, found, grades, strict=True)]
        if drawn:
            self._add_right(items, drawn, parts)
        prompts, written = [completion.prompt for completion in found], [completion.ids for completion in found]
        if wanted.perplexity:
            _add(items, "gold", self.student.surprisals(prompts, self._references(prompts)))
            parts.more()(len(items))
            _add(items, "retention", self.student.surprisals(prompts, written, base=True))
            parts.more()(len(items))
        if wanted.divergence and trains:  # without training it would be 0
            assert isinstance(self.student, LoadedStudent), "validated: servers tell no distributions"
            for item, value in zip(items, self.student.divergences(prompts, written), strict=True):
                item["divergence"] = value
        parts.end()
        return items

    def _references(self, prompts: Sequence[Ids]) -> list[Ids]:
        """The references' tokens, each as far as servers have room for it behind its prompt."""
        longest = longest_text(self.job.spec)
        whole = [completion_ids(self.tokenizer, example.demonstration) for example in self.examples]
        found: list[Ids] = [ids[: longest - len(prompt)] for prompt, ids in zip(prompts, whole, strict=True)]
        cut = sum(len(kept) < len(ids) for kept, ids in zip(found, whole, strict=True))
        if cut:
            logger.warning(
                "%d of %d references are too long behind their prompts and scored without their end", cut, len(whole)
            )
        return found

    def _completions(self, each: int, temperature: float, parts: Parts) -> list[Generated]:
        """So many of every row: first one of each, then the next."""
        arm = self.job.required_arm
        sampling = Sampling(temperature, arm.training.max_completion_tokens, arm.seed)
        return completions_of(self.student.engine, self.tokenizer, self.examples * each, sampling, parts.more())

    def _add_right(self, items: list[Json], samples: int, parts: Parts) -> None:
        """How many of the completions that are drawn of each row are right."""
        found = self._completions(samples, self.job.spec.evaluation.temperature, parts)
        grades = self.task.grade(self.examples * samples, [completion.text for completion in found])
        for index, item in enumerate(items):
            item["samples"] = samples
            item["right"] = sum(grade.correct for grade in grades[index :: len(items)])


def _item(example: Example, completion: Generated, grade: Grade) -> Json:
    tokens = len(completion.ids)
    return item_of(example, grade, text=completion.text, tokens=tokens, finished=completion.finished)


def _add(items: Sequence[Json], name: str, values: Sequence[Surprisal]) -> None:
    for item, value in zip(items, values, strict=True):
        item[f"{name}Nats"], item[f"{name}Tokens"] = value.nats, value.tokens
