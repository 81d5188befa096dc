"""What training leaves behind: a PEFT directory (or a whole model) that loads as it is, with a model card."""

import shutil
from pathlib import Path

from unisd.card import write_card
from unisd.files import read_json, write_json
from unisd.job import Job
from unisd.prepared import Prepared
from unisd.sealed import complete_directory
from unisd.training.loop import StepLoop
from unisd.training.saving import Weights


def export(trainer: StepLoop, weights: Path | Weights, target: Path, *, job: Job, prepared: Prepared) -> None:
    """Writes the trained weights, the tokenizer and a model card to `target`, complete or not at all.

    Args:
        trainer: the trainer at its end.
        weights: what `trainer.weights()` gave, or a directory that was saved of them, e.g. the best by the probe.
        target: the directory to make.
        job: the stage, for the card.
        prepared: the base model and rows, for the card.
    """
    with complete_directory(target) as staging:
        if isinstance(weights, Path):
            shutil.copytree(weights, staging, dirs_exist_ok=True)
        else:
            trainer.save_weights(weights, staging)
        trainer.processing_class.save_pretrained(staging)
        name_base(staging, job.spec.model.name, prepared.model_digest)
        write_card(staging, job, prepared)


def name_base(directory: Path, name: str | None, revision: str) -> None:
    """Says in an adapter's configuration which model it belongs to, by its name on the hub: paths do not travel."""
    config = directory / "adapter_config.json"
    if name is not None and config.is_file():
        write_json(config, {**read_json(config), "base_model_name_or_path": name, "revision": revision})
