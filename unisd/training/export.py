"""What training leaves behind: a PEFT directory (or a whole model) that loads as it is, with a model card."""

import shutil
from pathlib import Path
from typing import Any

import yaml

from unisd import __version__
from unisd.job import Job
from unisd.prepared import Prepared
from unisd.training.checkpoint import complete_directory
from unisd.training.loop import StepLoop


def export(trainer: StepLoop, weights: Path | None, target: Path, *, job: Job, prepared: Prepared) -> None:
    """Writes the trained weights, the tokenizer and a model card to `target`, complete or not at all.

    Args:
        trainer: the trainer at its end.
        weights: a directory with weights to export instead of the newest, e.g. the best by the probe.
        target: the directory to make.
        job: the stage, for the card.
        prepared: the base model and rows, for the card.
    """
    with complete_directory(target) as staging:
        if weights is None:
            trainer.save_weights(staging)
        else:
            shutil.copytree(weights, staging, dirs_exist_ok=True)
        trainer.processing_class.save_pretrained(staging)
        (staging / "README.md").write_text(model_card(job, prepared), encoding="utf-8")


def model_card(job: Job, prepared: Prepared) -> str:
    """Base model, data and the resolved configuration, in the form that model hubs read."""
    arm, model = job.required_arm, prepared.values["model"]
    head: dict[str, Any] = {
        "library_name": "peft" if arm.training.fine_tuning == "lora" else "transformers",
        "base_model": model["source"] if job.spec.model.name else Path(model["source"]).name,
        "tags": ["unisd", "self-distillation", arm.method],
    }
    settings = arm.model_dump(mode="json", by_alias=True, exclude_none=True)
    return (
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n\n"
        f"# {job.run.metadata.name}, component {arm.name}\n\n"
        f"Trained by UniSD {__version__} on task `{job.spec.task.name}`, {prepared.values['train']['rows']} rows.\n\n"
        f"- Base model: `{head['base_model']}`, content `{model['digest']}`\n"
        f"- Method: {arm.method}{f', preset `{arm.preset}`' if arm.preset else ''}, seed {arm.seed}\n"
        "- The licences of the base model and of the training data apply to this model.\n\n"
        f"## Configuration\n\n```yaml\n{yaml.safe_dump(settings, sort_keys=False)}```\n"
    )
