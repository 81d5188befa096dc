"""Which image a child runs: the one its attempt started with, the run's, or the installation's. Pure."""

from collections.abc import Mapping
from typing import Literal

from unisd.config.run import RunSpec
from unisd_operator.settings import Settings

Runs = Literal["preparation", "rollout", "trainer", "evaluation"]
"""Blocks of a run that name an image."""


def images(spec: RunSpec, settings: Settings, started: Mapping[str, str]) -> dict[Runs, str]:
    """The images of an attempt: those that it started with, as status keeps them, else those of its making."""
    default = settings.images
    chosen: dict[Runs, str] = {
        "preparation": spec.preparation.image or default.trainer,
        "rollout": spec.rollout.image or default.rollout,
        "trainer": spec.trainer.image or default.trainer,
        "evaluation": spec.evaluation.image or default.trainer,
    }
    return {block: started.get(block) or image for block, image in chosen.items()}
