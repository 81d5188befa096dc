"""Completions of the base model, drawn once before training: what the baseline ssd learns on (docs/baselines.md)."""

from collections.abc import Callable, Sequence
from functools import partial

from unisd.chat import prompt_ids
from unisd.config.resolve import Arm
from unisd.contexts.writer import CHUNK, Writer
from unisd.failures import StageError
from unisd.files import Json
from unisd.rollouts.types import Sampling, derived_seed
from unisd.tasks.types import Example

DROPPED_SHARE = 0.1
"""The shortest completions that are left out, as in the code of SSD's authors."""


def samples(
    examples: Sequence[Example], arm: Arm, writer: Writer, progress: Callable[[int], None]
) -> tuple[list[Json], Json]:
    """One completion of every example, unverified, without cut ones, empty ones and the shortest tenth: id, ids.

    Also gives the counts of what was left out. `progress` is told how many examples are done.

    Raises:
        StageError: BadInput, if none is left.
    """
    drawn: list[Json] = []
    for start in range(0, len(examples), CHUNK):
        chunk = examples[start : start + CHUNK]
        sampling = _sampling(arm, start)
        inputs = [vars(sampling), [[example.id, example.messages] for example in chunk]]
        drawn += writer.kept("samples", inputs, partial(_drawn, chunk, writer, sampling))
        progress(min(start + CHUNK, len(examples)))
    whole = [row for row in drawn if row["finished"] or not arm.training.mask_truncated]
    kept = without_shortest([row for row in whole if len(row["ids"]) > 1])
    counts = {"drawn": len(drawn), "cut": len(drawn) - len(whole), "short": len(whole) - len(kept)}
    if not kept:
        raise StageError(
            "BadInput",
            f"spec.training.maxCompletionTokens: none of {len(drawn)} samples of component {arm.component} can be "
            f"learnt from, {counts['cut']} were cut at {arm.training.max_completion_tokens} tokens; raise it",
        )
    return kept, counts


def without_shortest(rows: Sequence[Json]) -> list[Json]:
    """The rows but for the tenth with the fewest tokens, in order; of equally long ones the first are kept."""
    ranked = sorted(range(len(rows)), key=lambda index: (-len(rows[index]["ids"]), index))
    return [rows[index] for index in sorted(ranked[: len(rows) - int(DROPPED_SHARE * len(rows))])]


def _sampling(arm: Arm, first: int) -> Sampling:
    wanted = arm.sampling
    assert wanted.temperature is not None, "resolved"
    return Sampling(
        temperature=wanted.temperature,
        max_tokens=arm.training.max_completion_tokens,
        seed=derived_seed(arm.seed, 0),
        top_p=wanted.top_p,
        top_k=wanted.top_k,
        first_index=first,
    )


def _drawn(examples: Sequence[Example], writer: Writer, sampling: Sampling) -> list[Json]:
    prompts = [prompt_ids(writer.tokenizer, example.messages) for example in examples]
    found = sorted(writer.engine.generate(prompts, sampling), key=lambda completion: completion.index)
    return [{"id": examples[c.index].id, "ids": list(c.ids), "finished": c.finished} for c in found]
