"""The evaluation of one model on tasks, outside of any run: `unisd evaluate --model`.

Answers and their scores are kept by the content of the model, of the prompts and of the settings, so that what was
evaluated once is not generated again, and a model that was trained anew is. Grading is done each time.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from unisd import __version__
from unisd.config.task import Task as TaskConfig
from unisd.evaluation.figures import column, figures, pass_at
from unisd.evaluation.items import item_of
from unisd.evaluation.structured import FORMS, asked, read
from unisd.evaluation.subject import Subject
from unisd.failures import StageError
from unisd.files import Json, write_json, write_jsonl
from unisd.kept import kept_rows
from unisd.models import cache_directory
from unisd.rollouts.types import Sampling
from unisd.tasks.catalog import task_for
from unisd.tasks.types import Example, Grade

Told = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Settings:
    """How to evaluate."""

    max_tokens: int = 1024
    """Longest completion."""
    samples: int = 1
    """Completions of each row."""
    temperature: float = 0.0
    """0 takes the most likely token."""
    seed: int = 1
    passes: tuple[int, ...] = (1,)
    """The k of pass@k."""
    probabilities: bool = True
    """Perplexities and the divergence to the base, where the subject can tell them."""
    structured: bool = False
    """Asks for JSON under a schema, where the task has such a form."""


def evaluate_model(
    subject: Subject, tasks: Sequence[TaskConfig], settings: Settings, output: Path | None, told: Told
) -> Json:
    """Figures of every task; items-TASK.jsonl and evaluation.json go to `output` if it is given.

    Raises:
        StageError: BadInput, for rows or settings that a user must mend.
    """
    results: Json = {}
    for config in tasks:
        try:
            found, items = _task(subject, config, settings, told)
        except ValueError as error:
            raise StageError("BadInput", f"task {config.name}: {error}") from error
        results[config.name] = found
        if output is not None:
            write_jsonl(output / f"items-{config.name}.jsonl", items)
    evaluation: Json = {
        "unisd": __version__,
        "model": subject.identity,
        "settings": dataclasses.asdict(settings),
        "tasks": results,
    }
    if output is not None:
        write_json(output / "evaluation.json", evaluation)
    return evaluation


def _task(subject: Subject, config: TaskConfig, settings: Settings, told: Told) -> tuple[Json, list[Json]]:
    task = task_for(config)
    every = task.examples("eval")
    examples = [example for example in every if subject.fits(example, settings.max_tokens)]
    if not examples:
        raise ValueError(
            f"none of {len(every)} prompts leaves room for {settings.max_tokens} tokens; lower --max-tokens"
        )
    form = FORMS.get(config.name) if settings.structured else None
    asking = [asked(example, form) for example in examples] if form else examples
    schemas = [form.schema(example) if form else None for example in examples] * settings.samples
    repeated, prompts = examples * settings.samples, list(asking) * settings.samples

    def progress(done: int) -> None:
        told(config.name, done, len(prompts))

    sampling = Sampling(settings.temperature, settings.max_tokens, settings.seed)
    described = [dataclasses.asdict(sampling), [example.messages for example in prompts]]
    answers = _kept(subject, described, lambda: subject.answers(prompts, sampling, schemas, progress))
    texts = [read(answer["text"], form) if form else answer["text"] for answer in answers]
    grades = task.grade(repeated, texts)
    items = [_item(*each) for each in zip(repeated, answers, grades, strict=True)]
    if settings.probabilities and form is None:  # a reference is no JSON
        inputs = [described, [example.demonstration for example in examples], answers]
        scores = _kept(subject, inputs, lambda: subject.scores(prompts, answers))
        items = [{**item, **score} for item, score in zip(items, scores, strict=True)]
    items_SI = [items[start : start + len(examples)] for start in range(0, len(items), len(examples))]
    found = {"rows": len(examples), "dropped": len(every) - len(examples), **figures(items_SI, task.metric)}
    if task.metric != "none" and (settings.samples > 1 or settings.passes != (1,)):
        right_I = [float(sum(values)) for values in zip(*column(items_SI, "correct"), strict=True)]
        found["passAt"] = pass_at([right_I], settings.samples, settings.passes)
    return found, items


def _kept(subject: Subject, inputs: object, make: Callable[[], list[Json]]) -> list[Json]:
    if subject.identity is None:
        return make()
    return kept_rows(cache_directory() / "evaluations", [subject.identity, inputs], make)


def _item(example: Example, answer: Json, grade: Grade) -> Json:
    written = {name: answer[name] for name in ("text", "tokens", "finished")}
    return item_of(example, grade, **written)
