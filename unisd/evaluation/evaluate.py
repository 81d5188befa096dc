"""The evaluation stage of one component: greedy completions, grades and perplexities on the held-out rows."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from unisd.chat import completion_ids
from unisd.config.resolve import Arm, evaluated_tasks
from unisd.evaluation.generate import Generated, completions_of
from unisd.evaluation.perplexity import Surprisal, surprisals
from unisd.forward.attention import PACKED, register_packed_attention
from unisd.job import Job
from unisd.metrics.memory import peak_memory_gib
from unisd.models import load_model, load_tokenizer, stop_ids
from unisd.prepared import load_examples, load_prepared
from unisd.rollouts.transformers_engine import TransformersEngine
from unisd.rundir import Json, write_json, write_jsonl
from unisd.tasks.catalog import task_for
from unisd.tasks.types import Example, Grade, Task
from unisd.teacher.adapter import adapter_in_force


def evaluate(job: Job) -> None:
    """Scores one component on every task of the run; writes items-TASK.jsonl and evaluation.json."""
    started = time.monotonic()
    arm, out = job.required_arm, job.directory.evaluate(job.required_arm.name)
    prepared = load_prepared(job.directory.prepared)
    torch.set_num_threads(arm.training.threads or torch.get_num_threads())
    tokenizer = load_tokenizer(prepared.model)
    model, base = _models(job, arm, prepared.model)
    autocast = _autocast(model, arm)
    ending = stop_ids(tokenizer, prepared.model)
    engine = TransformersEngine(model, ending, job.spec.evaluation.batch_size)
    tasks = {}
    for config in evaluated_tasks(job.spec):
        task = task_for(config)
        examples = load_examples(job.directory.prepared / f"eval-{config.name}.jsonl")
        with autocast():
            items = _items(job, task, tokenizer, engine=engine, model=model, base=base, examples=examples)
        write_jsonl(out / f"items-{config.name}.jsonl", items)
        tasks[config.name] = {"rows": len(items), "metric": task.metric}
    write_json(
        out / "evaluation.json",
        {"tasks": tasks, "seconds": time.monotonic() - started, "peakMemoryGiB": peak_memory_gib()},
    )


def _models(job: Job, arm: Arm, path: Path) -> tuple[Any, Any]:
    """The trained model, and something to score with its base: the same module, or a second model."""
    register_packed_attention()
    precision = arm.training.precision
    trained = job.directory.trained(arm.name) / "adapter"
    if arm.trains and arm.training.fine_tuning == "full":
        model, base = load_model(trained, precision), load_model(path, precision)
        base.set_attn_implementation(PACKED)
    else:
        model = base = load_model(path, precision)
        if arm.trains:
            from peft import PeftModel

            model = base = PeftModel.from_pretrained(model, str(trained)).eval()
    (model.get_base_model() if hasattr(model, "peft_config") else model).set_attn_implementation(PACKED)
    return model, base


def _autocast(model: Any, arm: Arm) -> Callable[[], AbstractContextManager[Any]]:
    """The precision that training computed in, so that what is evaluated is what was trained."""
    if arm.training.precision == "float32":
        return nullcontext
    device = next(model.parameters()).device.type
    return lambda: torch.autocast(device, torch.bfloat16)


@contextmanager
def _base_in_force(model: Any, base: Any) -> Iterator[Any]:
    if base is not model or not hasattr(model, "peft_config"):
        yield base
        return
    with adapter_in_force(model, None):
        yield model


def _items(
    job: Job, task: Task, tokenizer: Any, *, engine: TransformersEngine, model: Any, base: Any, examples: list[Example]
) -> list[Json]:
    arm = job.required_arm
    limit, total = arm.training.max_completion_tokens, len(examples)
    steps = total * (3 if job.spec.evaluation.perplexity else 1)
    found = completions_of(engine, tokenizer, examples, limit, lambda done: job.progress.update(done, steps))
    grades = task.grade(examples, [completion.text for completion in found])
    items = [_item(*triple) for triple in zip(examples, found, grades, strict=True)]
    if not job.spec.evaluation.perplexity:
        return items
    prompts = [completion.prompt for completion in found]
    gold = [completion_ids(tokenizer, example.demonstration) for example in examples]
    budget = arm.training.max_tokens_per_pass
    _add(items, "gold", surprisals(model, prompts, gold, budget))
    job.progress.update(2 * total, steps)
    with _base_in_force(model, base) as scorer:
        _add(items, "retention", surprisals(scorer, prompts, [completion.ids for completion in found], budget))
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
