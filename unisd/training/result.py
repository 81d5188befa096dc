"""What a training that has ended tells of itself: its figures, what each mechanism did, and what to be warned of.

`unisd.train` writes it as result.json, which the report and the status read.
"""

import torch

from unisd.files import Json, read_jsonl
from unisd.metrics.memory import peak_memory_gib
from unisd.training.loop import StepLoop
from unisd.training.memory import in_words

_LEAST_SHARE = 0.01
"""Below it a mechanism is told to do next to nothing."""


def result_of(trainer: StepLoop, best: Json | None, seconds: float) -> Json:
    """The result.

    Args:
        trainer: the trainer at its end.
        best: step and score of the weights that were exported, if those are the best by the probe and not the last.
        seconds: how long this attempt took.
    """
    steps = read_jsonl(trainer.context.directory / "metrics.jsonl")
    shares = _shares(steps)
    return {
        "steps": trainer.state.global_step,
        "exportedStep": int(best["step"]) if best else trainer.state.global_step,
        "checkpoint": "best" if best else "last",
        "best": trainer.best,
        "seconds": seconds,
        "stepSeconds": sum(row["seconds"] for row in steps),
        "tokensTrained": sum(row.get("tokens_trained", 0.0) for row in steps),
        "tokensScored": sum(row.get("tokens_scored", 0.0) for row in steps),
        "peakMemoryGiB": peak_memory_gib(),
        "threads": torch.get_num_threads(),
        "counters": trainer.counters,
        "shares": shares,
        "warnings": [
            *_skipped_steps(trainer),
            *_broken_bounds(trainer),
            *_weak_mechanisms(shares),
            *_smaller_passes(trainer),
        ],
    }


def _skipped_steps(trainer: StepLoop) -> list[str]:
    skipped = trainer.counters["skipped_steps"]
    if not skipped:
        return []
    return [
        f"skipped_steps {skipped} of {trainer.state.global_step}: they changed nothing, for no completion of theirs "
        "was whole; raise training.maxCompletionTokens, or set training.maskTruncated to false"
    ]


def _broken_bounds(trainer: StepLoop) -> list[str]:
    return [f"{name} broke its bound at {count} steps" for name, count in trainer.warnings.items()]


def _smaller_passes(trainer: StepLoop) -> list[str]:
    halvings = trainer.counters["memory_halvings"]
    return [in_words(trainer.context.arm.training, halvings)] if halvings else []


def _shares(steps: list[Json]) -> dict[str, float]:
    """What each mechanism that is on contributed, averaged over the steps (names and units: `metrics.names`)."""
    names = sorted({name for row in steps for name in row if name.startswith("share_")})
    found = {name: [row[name] for row in steps if name in row] for name in names}
    return {name.removeprefix("share_"): sum(values) / len(values) for name, values in found.items()}


def _weak_mechanisms(shares: dict[str, float]) -> list[str]:
    """A sentence for each mechanism that is on and hardly contributes."""
    return [
        f"{name} is on and its share is {share:.4f}, under {_LEAST_SHARE}: it hardly acts"
        for name, share in shares.items()
        if share < _LEAST_SHARE
    ]
