"""The first stage: everything that a run's components share is fixed once.

Resolves the model, loads the rows, carves out probes, chooses the donors of auxiliary contexts, and drops the rows
whose longest prompt does not fit, by the worst case over all components, so that every component trains on the same
rows. Texts made later count with their cap.
"""

import dataclasses
import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from unisd.chat import prompt_ids
from unisd.config.resolve import Arm, evaluated_tasks, resolve
from unisd.config.run import RunSpec
from unisd.config.task import Contexts, Source, Task
from unisd.contexts.induction import check_sets
from unisd.contexts.layout import auxiliary_messages, induced_messages, teacher_messages
from unisd.contexts.neighbours import in_contexts, neighbours
from unisd.failures import StageError
from unisd.files import link, write_json, write_jsonl
from unisd.job import Job
from unisd.kept import kept_rows
from unisd.models import cache_directory, content_digest, load_tokenizer, positions_of, resolve_model
from unisd.tasks.catalog import task_for
from unisd.tasks.rows import pinned, stable_fraction
from unisd.tasks.types import Example

logger = logging.getLogger(__name__)


def prepare(job: Job) -> None:
    """Carries out the stage; see the module. Raises StageError BadInput for whatever the user must mend."""
    spec, out = job.spec, job.directory.prepared
    model = resolve_model(spec.model, cache_directory())
    tokenizer = load_tokenizer(model.path)
    job.progress.update(1, 4)
    try:
        spec = spec.model_copy(update={"task": pinned(spec.task, task_for(spec.task).hub)})
        train, probe, evaluation = _examples(spec)
        donors = _donors(spec, train)
        job.progress.update(2, 4)
        limit = prompt_limit(spec, model.path)
        lengths = _Lengths(spec, tokenizer)
        by_id = {example.id: example for example in train}
        sizes = {example.id: lengths.longest(example, donors, by_id) for example in train}
        kept = _fitting("training", train, sizes, limit)
        probed, evaluated = _bare(lengths, "probe", probe, limit), {}
        for name, examples in evaluation.items():
            evaluated[name] = _bare(lengths, "evaluation", examples, limit)
    except ValueError as error:
        raise StageError("BadInput", str(error)) from error
    job.progress.update(3, 4)
    tables = {
        out.train: kept,
        out.pool: train,
        out.probe: probed,
        **{out.evaluation(name): rows for name, rows in evaluated.items()},
    }
    for path, examples in tables.items():
        write_jsonl(path, [dataclasses.asdict(example) for example in examples])
    for source, chosen in donors.items():
        write_json(out.neighbours(source), chosen)
    link(out.model, model.path)
    write_json(
        out.record,
        {
            "model": {"path": str(model.path), "digest": model.digest, "source": model.source},
            "train": {"rows": len(kept), "dropped": sorted(set(by_id) - {example.id for example in kept})},
            "probe": {"rows": len(probed), "dropped": len(probe) - len(probed)},
            "evaluation": {
                name: {"rows": len(examples), "dropped": len(evaluation[name]) - len(examples)}
                for name, examples in evaluated.items()
            },
            "promptLimit": limit,
            "longestPrompt": max(sizes[example.id] for example in kept),
            "instructions": list(task_for(spec.task).instructions),
            "revisions": {
                "model": f"{model.source}@{model.digest}",
                **_dataset(spec.task.source),
                "rows": _digest(tables),
            },
        },
    )
    job.progress.update(4, 4)


def _dataset(source: Source | None) -> dict[str, str]:
    """The hub dataset of the run's task with its commit, where its rows come from one."""
    return {"dataset": f"{source.hub}@{source.revision}"} if source is not None and source.hub is not None else {}


def _digest(tables: Iterable[Path]) -> str:
    """Names the rows of a run by their content."""
    found = hashlib.sha256()
    for path in sorted(tables):
        found.update(path.read_bytes())
    return found.hexdigest()


def prompt_limit(spec: RunSpec, model: Path) -> int:
    """Tokens that a prompt may have: as the run says, or what the model's positions leave beside a completion."""
    positions, training = positions_of(model), spec.training
    if positions is None or positions - training.max_completion_tokens >= training.max_prompt_tokens:
        return training.max_prompt_tokens
    left = positions - training.max_completion_tokens
    if left < 1:
        raise StageError(
            "BadInput",
            f"spec.training.maxCompletionTokens: {training.max_completion_tokens} leaves no room for a prompt in a "
            f"model of {positions} positions; lower it",
        )
    logger.warning("prompts may have %d tokens: the model has %d positions, completions included", left, positions)
    return left


def _bare(lengths: "_Lengths", kind: str, examples: Sequence[Example], limit: int) -> list[Example]:
    """Those examples whose bare prompt fits."""
    return _fitting(kind, examples, {example.id: lengths.student(example) for example in examples}, limit)


def _fitting(kind: str, examples: Sequence[Example], sizes: Mapping[str, int], limit: int) -> list[Example]:
    """Those examples whose prompts have at most `limit` tokens. Raises StageError if that leaves none of them."""
    kept = [example for example in examples if sizes[example.id] <= limit]
    if examples and not kept:
        shortest, longest = min(sizes.values()), max(sizes.values())
        raise StageError(
            "BadInput",
            f"spec.training.maxPromptTokens: every one of {len(examples)} {kind} rows has a prompt above {limit} "
            f"tokens (shortest {shortest}, longest {longest}); raise it, or show fewer demonstrations",
        )
    return kept


def _examples(spec: RunSpec) -> tuple[list[Example], list[Example], dict[str, list[Example]]]:
    """Training rows, probe rows carved from them, and evaluation rows by task."""
    task = task_for(spec.task)
    train = task.examples("train")
    evaluation: dict[str, list[Example]] = {
        config.name: _evaluation_rows(spec, config) for config in evaluated_tasks(spec)
    }
    if spec.evaluation.every_steps is None:
        return train, [], evaluation
    count = spec.evaluation.probe_examples
    if count >= len(train):
        raise ValueError(
            f"spec.evaluation.probeExamples: {count} of {len(train)} training rows leaves none to train on; lower it"
        )
    ranked = sorted(train, key=lambda example: (stable_fraction(f"{example.id}/probe", spec.task.seed), example.id))
    chosen = {example.id for example in ranked[:count]}
    return [e for e in train if e.id not in chosen], [e for e in train if e.id in chosen], evaluation


def _evaluation_rows(spec: RunSpec, config: Task) -> list[Example]:
    try:
        return task_for(config).examples("eval")
    except ValueError as error:
        if config.name == spec.task.name:
            raise
        raise ValueError(f"spec.evaluation, task {config.name}: {error}") from None


def _donors(spec: RunSpec, train: Sequence[Example]) -> dict[str, dict[str, list[str]]]:
    """For each source of auxiliary contexts in use, the donors of every example; as many as the neediest arm takes."""
    needs: dict[str, tuple[int, Arm]] = {}
    for arm in resolve(spec):
        if arm.induces:
            check_sets(train, arm.contexts)
        if arm.objective.agreement is None or arm.induces:
            continue
        count = arm.contexts.count * arm.contexts.demonstrations_per_context
        if count > needs.get(arm.contexts.source, (0, arm))[0]:
            needs[arm.contexts.source] = (count, arm)
    return {source: _chosen(train, arm.contexts, count, spec.task.seed) for source, (count, arm) in needs.items()}


def _chosen(train: Sequence[Example], contexts: Contexts, count: int, seed: int) -> dict[str, list[str]]:
    """The donors of every example. Those retrieved are kept by content: to embed a large task takes long."""
    if contexts.source != "retrieval":
        return neighbours(train, contexts, count, seed)
    encoder = Path(contexts.embedding_model)
    by = "bm25" if contexts.retriever == "bm25" else content_digest(encoder) if encoder.is_dir() else str(encoder)
    rows = kept_rows(
        cache_directory() / "neighbours",
        [by, count, [[example.id, example.query] for example in train]],
        lambda: [{"id": name, "donors": found} for name, found in neighbours(train, contexts, count, seed).items()],
    )
    return {row["id"]: row["donors"] for row in rows}


class _Lengths:
    """Token counts of the prompts that a run will build."""

    def __init__(self, spec: RunSpec, tokenizer: Any) -> None:
        arms = resolve(spec)
        self._tokenizer = tokenizer
        self._task = task_for(spec.task)
        self._layout = spec.contexts.layout
        self._cap = spec.contexts.max_generated_tokens
        self._samples = any(arm.samples for arm in arms)
        self._negatives = any(arm.objective.contrastive for arm in arms)
        self._auxiliary = {arm.contexts for arm in arms if arm.objective.agreement and not arm.induces}
        self._induced = any(arm.induces for arm in arms)

    def student(self, example: Example) -> int:
        """Tokens of the bare prompt."""
        return self._count(example.messages)

    def longest(
        self, example: Example, donors: Mapping[str, Mapping[str, Sequence[str]]], by_id: Mapping[str, Example]
    ) -> int:
        """Tokens of the longest prompt that any component builds of this example."""
        sizes = [self.student(example)]
        if self._samples:
            sizes.append(self._count(teacher_messages(example, example.demonstration, self._layout)))
        if self._negatives:
            sizes.append(self._negative(example))
        if self._induced:
            sizes.append(self._count(induced_messages(example, "")) + self._cap)
        for contexts in self._auxiliary:
            chosen = [by_id[identity] for identity in donors[contexts.source][example.id]]
            for group in in_contexts(chosen, contexts):
                sizes.append(self._count(auxiliary_messages(example, group, self._layout)))
        return max(sizes)

    def _negative(self, example: Example) -> int:
        given = example.negative
        if given is not None:
            return self._count(teacher_messages(example, given, self._layout))
        request = self._task.negative_request(example)
        if request is None:
            return 0
        return self._count(teacher_messages(example, request.frame, self._layout)) + self._cap

    def _count(self, messages: Iterable[Any]) -> int:
        return len(prompt_ids(self._tokenizer, list(messages)))
