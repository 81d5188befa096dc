"""Wrong demonstrations for the contrastive term: the rows' own, or written by the base model around a wrong answer.

The wrong answer and everything around the explanation are our template's, so that a weak model too yields a valid one.
A text that will not do is asked for again with another seed, then the example goes without: it leaves the contrastive
term only, and is counted. Results are kept by content, so that another run with the same inputs finds them.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from unisd.chat import prompt_ids
from unisd.failures import StageError
from unisd.job import Job
from unisd.rollouts.types import RolloutEngine, Sampling
from unisd.rundir import Json, read_jsonl, write_json, write_jsonl
from unisd.tasks.types import Example, Task

ATTEMPTS = 3
_CHUNK = 256


def build(job: Job) -> None:
    """The contexts stage: a negative for every training example that can have one.

    Raises:
        StageError: BadInput, if more examples than `contexts.maxMissingNegatives` allows are left without.
    """
    from unisd.models import cache_directory
    from unisd.prepared import load_examples, load_prepared
    from unisd.tasks.catalog import task_for

    prepared = load_prepared(job.directory.prepared)
    examples = load_examples(job.directory.prepared / "train.jsonl")
    task = task_for(job.spec.task)
    settings = {
        "model": prepared.model_digest,
        "precision": job.spec.training.precision,
        "cap": job.spec.contexts.max_generated_tokens,
        "seed": job.spec.task.seed,
        "attempts": ATTEMPTS,
    }
    cache = cache_directory() / "negatives"
    found: dict[str, Json] = {}
    generate: Callable[[Sequence[Example]], list[Json]] | None = None
    for start in range(0, len(examples), _CHUNK):
        chunk = examples[start : start + _CHUNK]
        path = cache / f"{_key(settings, chunk, task)}.jsonl"
        if not path.is_file():
            generate = generate or _generator(job, task)
            write_jsonl(path, generate(chunk))
        found |= {row["id"]: row for row in read_jsonl(path)}
        job.progress.update(min(start + _CHUNK, len(examples)), len(examples))
    missing = [example for example in examples if example.id not in found]
    _check_missing(job, missing, len(examples))
    write_jsonl(job.directory.contexts / "negatives.jsonl", list(found.values()))
    write_json(job.directory.contexts / "contexts.json", {"negatives": len(found), "missing": [e.id for e in missing]})


def _check_missing(job: Job, missing: Sequence[Example], total: int) -> None:
    allowed = job.spec.contexts.max_missing_negatives
    if len(missing) > allowed * total:
        raise StageError(
            "BadInput",
            f"spec.contexts.maxMissingNegatives: {len(missing)} of {total} examples have no valid wrong demonstration "
            f"after {ATTEMPTS} attempts, more than the allowed share of {allowed}; first {missing[0].id!r}. Raise it, "
            "use a stronger model, or give rows with a field 'negative'",
        )


def _key(settings: Json, chunk: Sequence[Example], task: Task) -> str:
    """Names a chunk's negatives by everything that they depend on."""
    rows = [[e.id, e.messages, e.answer, e.choices, e.negative, _request_text(task, e)] for e in chunk]
    return hashlib.sha256(json.dumps([settings, rows], sort_keys=True).encode()).hexdigest()[:32]


def _request_text(task: Task, example: Example) -> list[Any] | None:
    request = task.negative_request(example)
    return None if request is None else [request.messages, request.prefix]


def _generator(job: Job, task: Task) -> Callable[[Sequence[Example]], list[Json]]:
    from unisd.models import load_model, load_tokenizer, stop_ids
    from unisd.prepared import load_prepared
    from unisd.rollouts.transformers_engine import TransformersEngine

    path: Path = load_prepared(job.directory.prepared).model
    tokenizer = load_tokenizer(path)
    model = load_model(path, job.spec.training.precision)
    engine = TransformersEngine(model, stop_ids(tokenizer, path), job.spec.evaluation.batch_size)
    cap, seed = job.spec.contexts.max_generated_tokens, job.spec.task.seed

    def generate(chunk: Sequence[Example]) -> list[Json]:
        return negatives(chunk, task, engine, tokenizer, Sampling(0.7, cap, seed))

    return generate


def negatives(
    examples: Sequence[Example], task: Task, engine: RolloutEngine, tokenizer: Any, sampling: Sampling
) -> list[Json]:
    """Wrong demonstrations of the examples that can have one: id, answer, demonstration, attempts."""
    given = [example for example in examples if example.negative is not None]
    found: dict[str, Json] = {
        example.id: {"id": example.id, "answer": None, "demonstration": example.negative, "attempts": 0}
        for example in given
    }
    requests = {e.id: request for e in examples if e.id not in found and (request := task.negative_request(e))}
    for attempt in range(1, ATTEMPTS + 1):
        open_examples = [example for example in examples if example.id in requests and example.id not in found]
        if not open_examples:
            break
        prompts = [prompt_ids(tokenizer, requests[e.id].messages, requests[e.id].prefix) for e in open_examples]
        seeded = Sampling(sampling.temperature, sampling.max_tokens, sampling.seed * 101 + attempt)
        texts = {c.index: tokenizer.decode(c.ids, skip_special_tokens=True) for c in engine.generate(prompts, seeded)}
        asked = [(example, requests[example.id]) for example in open_examples]
        written = task.negative_demonstrations(asked, [texts[index] for index in range(len(asked))])
        for (example, request), demonstration in zip(asked, written, strict=True):
            if demonstration is not None and demonstration != example.demonstration:
                found[example.id] = {
                    "id": example.id,
                    "answer": request.answer,
                    "demonstration": demonstration,
                    "attempts": attempt,
                }
    return [found[example.id] for example in examples if example.id in found]
