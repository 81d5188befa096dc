"""What the preparation and the contexts stage left for an arm's teachers, read back; and what its files are called.

Called by training and by `unisd contexts show`; `build` writes the texts under these names. Builds no prompts.
"""

from collections.abc import Sequence
from pathlib import Path

from unisd.config.resolve import Arm
from unisd.config.task import Contexts
from unisd.contexts.induction import assigned
from unisd.files import read_json, read_jsonl
from unisd.job import Job
from unisd.prepared import load_examples
from unisd.rundir import RunDir
from unisd.tasks.types import Example

NEGATIVES = "negatives"


def instructions_name(contexts: Contexts) -> str:
    """Induced instructions of one size: arms that differ in nothing else share them."""
    return f"instructions-{contexts.demonstrations_per_context}"


def samples_name(arm: Arm) -> str:
    """Samples of the base model, of one arm."""
    return f"samples-{arm.name}"


def path_of(directory: RunDir, name: str) -> Path:
    """The file of a kind of texts."""
    return directory.contexts / f"{name}.jsonl"


def donors_of(job: Job, arm: Arm) -> dict[str, list[Example]]:
    """For each example id the other examples of its auxiliary contexts, in order; empty for an arm that shows none."""
    if arm.objective.agreement is None or arm.induces:
        return {}
    prepared = job.directory.prepared
    pool = {example.id: example for example in load_examples(prepared.pool)}
    chosen: dict[str, list[str]] = read_json(prepared.neighbours(arm.contexts.source))
    return {identity: [pool[donor] for donor in found] for identity, found in chosen.items()}


def instructions_of(job: Job, arm: Arm, examples: Sequence[Example]) -> dict[str, list[str]]:
    """For each example id the instructions of its auxiliary contexts; empty for an arm that is given none."""
    if not arm.induces:
        return {}
    found = read_jsonl(path_of(job.directory, instructions_name(arm.contexts)))
    return assigned(examples, found, arm.contexts.count, job.spec.task.seed)


def negatives_of(job: Job, arm: Arm) -> dict[str, str]:
    """Wrong demonstrations by example id, of those that have one; empty for an arm without contrastive term."""
    if arm.objective.contrastive is None:
        return {}
    return {row["id"]: row["demonstration"] for row in read_jsonl(path_of(job.directory, NEGATIVES))}


def samples_of(job: Job, arm: Arm) -> dict[str, list[int]]:
    """Token ids of the base model's own samples, by example id."""
    return {row["id"]: row["ids"] for row in read_jsonl(path_of(job.directory, samples_name(arm)))}
