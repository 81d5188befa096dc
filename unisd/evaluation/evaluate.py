"""The evaluation stage of one component: greedy completions, grades and perplexities on the held-out rows."""

import time
from collections.abc import Sequence
from typing import Any

import torch

from unisd.card import write_card
from unisd.chat import completion_ids
from unisd.config.resolve import evaluated_tasks
from unisd.evaluation.generate import Generated, completions_of
from unisd.evaluation.perplexity import Surprisal
from unisd.evaluation.scores import scores_of
from unisd.evaluation.student import Student, student_for
from unisd.job import Job
from unisd.metrics.memory import peak_memory_gib
from unisd.models import load_tokenizer
from unisd.prepared import load_examples, load_prepared
from unisd.rundir import Json, write_json, write_jsonl
from unisd.tasks.catalog import task_for
from unisd.tasks.types import Example, Grade, Task


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
            examples = load_examples(job.directory.prepared / f"eval-{config.name}.jsonl")
            items = _items(job, task, tokenizer, student, examples)
            write_jsonl(out / f"items-{config.name}.jsonl", items)
            tasks[config.name] = {"rows": len(items), "metric": task.metric}
            scores += scores_of(config.name, task.metric, items)
    write_json(
        out / "evaluation.json",
        {"tasks": tasks, "scores": scores, "seconds": time.monotonic() - started, "peakMemoryGiB": peak_memory_gib()},
    )
    if job.required_arm.trains:
        write_card(job.directory.trained(job.required_arm.name) / "adapter", job, prepared, scores)


def _items(job: Job, task: Task, tokenizer: Any, student: Student, examples: list[Example]) -> list[Json]:
    limit, total = job.required_arm.training.max_completion_tokens, len(examples)
    steps = total * (3 if job.spec.evaluation.perplexity else 1)
    found = completions_of(student.engine, tokenizer, examples, limit, lambda done: job.progress.update(done, steps))
    grades = task.grade(examples, [completion.text for completion in found])
    items = [_item(*triple) for triple in zip(examples, found, grades, strict=True)]
    if not job.spec.evaluation.perplexity:
        return items
    prompts = [completion.prompt for completion in found]
    gold = [completion_ids(tokenizer, example.demonstration) for example in examples]
    _add(items, "gold", student.surprisals(prompts, gold))
    job.progress.update(2 * total, steps)
    _add(items, "retention", student.surprisals(prompts, [completion.ids for completion in found], base=True))
    job.progress.update(steps, steps)
    return items


def _item(example: Example, completion: Generated, grade: Grade) -> Json:
    return {
        "id": example.id,
        "completion": completion.text,
        "tokens": len(completion.ids),
        "finished": completion.finished,
        "correct": grade.correct,
        "found": grade.found,
        "answer": grade.answer,
        "expected": example.answer,
        "parts": dict(grade.parts),
        "groups": dict(example.groups),
    }


def _add(items: Sequence[Json], name: str, values: Sequence[Surprisal]) -> None:
    for item, value in zip(items, values, strict=True):
        item[f"{name}Nats"], item[f"{name}Tokens"] = value.nats, value.tokens
