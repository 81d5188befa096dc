"""The stages of a run: which there are, what each needs, and what its result depends on. Pure.

Read by the local runner and by the operator, which run the same stages as processes and as pods. A stage's hash covers
every input: two stages with one hash have one result.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from unisd.config.resolve import Arm, resolve
from unisd.config.run import SelfDistillRun

StageKind = Literal["prepare", "contexts", "train", "evaluate", "report", "push"]
CLOSING: frozenset[StageKind] = frozenset({"report", "push"})
"""Shared stages that come after every component has ended."""
# Raise when a stage's output changes for equal inputs, so that older results are not taken for current ones.
FORMAT = 2


@dataclass(frozen=True)
class Stage:
    """One step of a run."""

    name: str
    """E.g. `prepare` or `train/star-1`."""
    kind: StageKind
    hash: str
    """Hash of everything that its result depends on, stages before it included."""
    needs: tuple[str, ...] = ()
    """Names of the stages whose results it reads."""
    arm: Arm | None = None
    """The component and seed that it belongs to; None for shared stages."""
    optional_needs: tuple[str, ...] = ()
    """Stages that must have ended, well or not, before this one starts (the report reads what there is)."""


def stages(run: SelfDistillRun, sources: Mapping[str, str]) -> tuple[Stage, ...]:
    """All stages of a run, each after those that it needs.

    Args:
        run: a valid run.
        sources: content digests of the local files that the run reads (model, rows, rows:TASK), by field.
    """
    arms = resolve(run.spec)
    prepare = Stage("prepare", "prepare", _hash(prepare_inputs(run, arms), sources))
    found = [prepare]
    written = _texts(run, arms)
    contexts = None
    if written:
        contexts = Stage("contexts", "contexts", _hash(written, prepare.hash), ("prepare",))
        found.append(contexts)
    for arm in arms:
        found += _arm_stages(run, arm, prepare, contexts)
    evaluated = tuple(stage for stage in found if stage.kind == "evaluate")
    hashes = [stage.hash for stage in evaluated]
    names = tuple(stage.name for stage in evaluated)
    report = Stage("report", "report", _hash(run.metadata.name, hashes), ("prepare",), optional_needs=names)
    return (*found, report, *_push(run, evaluated))


def _push(run: SelfDistillRun, evaluated: tuple[Stage, ...]) -> list[Stage]:
    """The stage that pushes what was trained to a hub, where the run names one."""
    hub = run.spec.outputs.hub if run.spec.outputs else None
    trained = [stage for stage in evaluated if stage.arm is not None and stage.arm.trains]
    if hub is None or not trained:
        return []
    inputs = {"repository": hub.repository, "private": hub.private, "of": [stage.hash for stage in trained]}
    return [Stage("push", "push", _hash(inputs), ("prepare",), optional_needs=tuple(s.name for s in evaluated))]


def _texts(run: SelfDistillRun, arms: tuple[Arm, ...]) -> list[Any]:
    """What the texts depend on that the base model has to write, beside the preparation; empty if there are none."""
    shared = {
        "seed": run.spec.task.seed,
        "precision": run.spec.training.precision,
        "rollout": run.spec.rollout.engine,
        "allowed": run.spec.contexts.max_missing_negatives,
    }
    kinds: list[Any] = []
    for arm in arms:
        if arm.objective.contrastive is not None:
            kinds.append("negatives")
        if arm.induces:
            kinds.append(["instructions", arm.contexts.demonstrations_per_context, arm.contexts.count])
        if arm.method == "ssd":
            kinds.append(["samples", arm.name, _plain(arm.sampling), arm.training.max_completion_tokens])
    unique = {json.dumps(kind, sort_keys=True) for kind in kinds}
    return [shared, *sorted(unique)] if unique else []


def _arm_stages(run: SelfDistillRun, arm: Arm, prepare: Stage, contexts: Stage | None) -> list[Stage]:
    """Training and evaluation of one arm."""
    found = []
    before = prepare
    if arm.trains:
        needs = [prepare, contexts] if contexts and arm.needs_texts else [prepare]
        evaluation = run.spec.evaluation
        inputs = {
            "arm": _plain(arm.model_dump(exclude={"component"})),
            "rollout": run.spec.rollout.engine,
            "probes": [evaluation.every_steps, evaluation.batch_size] if evaluation.every_steps else None,
            # A step has the rows of all processes.
            **({"processes": processes} if (processes := run.spec.trainer.num_proc_per_node) > 1 else {}),
        }
        before = Stage(
            f"train/{arm.name}",
            "train",
            # What this arm reads of the contexts follows from its own settings, not from what others had written.
            _hash(inputs, prepare.hash),
            tuple(stage.name for stage in needs),
            arm,
        )
        found.append(before)
    inputs = {
        "evaluation": _plain(run.spec.evaluation.model_copy(update={"sources": None})),
        "limit": arm.training.max_completion_tokens,
        "rollout": run.spec.rollout.engine,
    }
    needed = tuple(dict.fromkeys(("prepare", before.name)))
    found.append(Stage(f"evaluate/{arm.name}", "evaluate", _hash(inputs, before.hash), needed, arm))
    return found


def prepare_inputs(run: SelfDistillRun, arms: tuple[Arm, ...]) -> dict[str, Any]:
    """What the shared preparation depends on: model, rows, and the contexts and lengths that rows must fit."""
    training = run.spec.training
    return {
        "model": _plain(run.spec.model.model_copy(update={"path": None})),
        "task": _plain(run.spec.task.model_copy(update={"source": None})),
        "hub": [run.spec.task.source.hub, run.spec.task.source.revision] if run.spec.task.source else None,
        "contexts": sorted(
            {json.dumps(_plain(arm.contexts), sort_keys=True) for arm in arms if arm.objective.agreement}
        ),
        "layout": [run.spec.contexts.layout, run.spec.contexts.max_generated_tokens],
        "demonstrations": any(arm.samples for arm in arms),
        "negatives": any(arm.objective.contrastive for arm in arms),
        "lengths": [training.max_prompt_tokens, training.max_completion_tokens],
        "evaluation": [run.spec.evaluation.tasks, run.spec.evaluation.every_steps, run.spec.evaluation.probe_examples],
        "sources": [[given.task, given.hub, given.revision] for given in run.spec.evaluation.sources or ()],
    }


def _plain(model: Any) -> Any:
    return model.model_dump(mode="json", by_alias=True) if hasattr(model, "model_dump") else model


def _hash(*parts: object) -> str:
    text = json.dumps([FORMAT, *parts], sort_keys=True, default=dict)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
