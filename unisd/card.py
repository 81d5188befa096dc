"""The model card of a trained component: what it was made from, how, and how it scores. In the form that hubs read.

Training writes it beside the weights; evaluation writes it anew, with scores. Knows nothing of how either is done.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from unisd import __version__
from unisd.files import Json, write_text
from unisd.job import Job
from unisd.prepared import Prepared
from unisd.rundir import CARD
from unisd.tasks.catalog import task_for
from unisd.tasks.rows import hub_of

_SEE_THERE = "see there"


def write_card(directory: Path, job: Job, prepared: Prepared, scores: Sequence[Json] = ()) -> None:
    """Writes the card of the job's component into the directory with its weights, in place of one that is there."""
    write_text(directory / CARD, model_card(job, prepared, scores))


def model_card(job: Job, prepared: Prepared, scores: Sequence[Json] = ()) -> str:
    """The text of the card.

    Args:
        job: the component.
        prepared: its base model and rows.
        scores: of its evaluation, as `evaluation.json` has them; none before that.
    """
    arm = job.required_arm
    settings = arm.model_dump(mode="json", by_alias=True, exclude_none=True)
    head = yaml.safe_dump(_head(job, prepared), sort_keys=False)
    parts = [
        f"---\n{head}---\n",
        f"# {job.run.metadata.name}, component {arm.name}\n",
        f"Trained by UniSD {__version__}: {arm.method}{f', preset `{arm.preset}`' if arm.preset else ''}, "
        f"seed {arm.seed}.\n",
        *_origins(job, prepared),
        *_scores(scores),
        f"## Configuration\n\n```yaml\n{yaml.safe_dump(settings, sort_keys=False)}```",
    ]
    return "\n".join(parts) + "\n"


def _head(job: Job, prepared: Prepared) -> dict[str, Any]:
    """What hubs index."""
    arm, dataset = job.required_arm, _dataset(job)
    return {
        "library_name": "peft" if arm.training.fine_tuning == "lora" else "transformers",
        "base_model": _base(job, prepared),
        **({"datasets": [dataset]} if dataset else {}),
        "tags": ["unisd", "self-distillation", arm.method],
    }


def _base(job: Job, prepared: Prepared) -> str:
    source: str = prepared.values["model"]["source"]
    return source if job.spec.model.name else Path(source).name


def _dataset(job: Job) -> str | None:
    """The hub's name of the rows; None for rows from a file."""
    hub = hub_of(job.spec.task.source, task_for(job.spec.task).hub)
    return hub.name if hub is not None else None


def _origins(job: Job, prepared: Prepared) -> list[str]:
    """Base model and rows, each with its version and licence."""
    task, rows = job.spec.task, prepared.values["train"]["rows"]
    hub = task_for(task).hub
    licence = hub.licence if hub is not None else "that of your own rows"
    version = "revision" if job.spec.model.name else "content"
    return [
        "| | | version | licence |\n| --- | --- | --- | --- |\n"
        f"| base model | {_base(job, prepared)} | {version} `{prepared.model_digest}` | {_licence(prepared.model)} |\n"
        f"| data | task `{task.name}`, {rows} rows of {_dataset(job) or 'a file'} "
        f"| content `{prepared.values['revisions']['rows'][:16]}` | {licence} |\n"
        "\nThe licences of both apply to this model.\n"
    ]


def _licence(model: Path) -> str:
    """What the base model's own card says."""
    card = model / CARD
    if not card.is_file():
        return _SEE_THERE
    _, mark, rest = card.read_text(encoding="utf-8").partition("---\n")
    head, closed, _ = rest.partition("\n---")
    try:
        values = yaml.safe_load(head) if mark and closed else None
    except yaml.YAMLError:
        return _SEE_THERE
    return str(values.get("license", _SEE_THERE)) if isinstance(values, dict) else _SEE_THERE


def _scores(scores: Sequence[Json]) -> list[str]:
    """A table of scores with their intervals."""
    if not scores:
        return []
    lines = [
        f"| {score['task']} | {score['metric']} | {score['score']:.4g} | {score['low']:.4g} to {score['high']:.4g} "
        f"| {score['items']} |"
        for score in scores
    ]
    heading = "| task | metric | score | 95 % interval | rows |\n| --- | --- | --- | --- | --- |\n"
    return ["## Evaluation, on held-out rows\n\n" + heading + "\n".join(lines) + "\n"]
