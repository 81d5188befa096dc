"""What is wrong with a well-typed manifest, in the user's words: what types alone cannot find.

Pure. Called by `load` before a run is handed on, and by the command line for what a task's rows are graded by. It says
what is wrong and stops nothing. `unisd_operator.api.rules` says the same to the API server.
"""

import re
from collections.abc import Iterator

from unisd.config.base import Problem
from unisd.config.objective import divergence_bound
from unisd.config.presets import Method, method_of
from unisd.config.resolve import given_fields, merged_block, training_of
from unisd.config.run import Component, RunSpec
from unisd.config.task import EVALUATION_ONLY, Task

MAX_ARMS = 64
_MECHANISMS = ("divergence", "agreement", "ema", "contrastive", "features", "clip", "contexts")
UNREAD: dict[Method, tuple[str, ...]] = {
    "raw": (*_MECHANISMS, "sampling", "training"),
    "sft": (*_MECHANISMS, "sampling"),
    "ssd": _MECHANISMS,
}
"""Blocks of a component that a baseline without a teacher does not read."""


def problems(spec: RunSpec) -> list[Problem]:
    """Everything wrong with a well-typed spec."""
    return [*_run_problems(spec), *_component_problems(spec)]


def machine_problems(spec: RunSpec) -> list[Problem]:
    """What is wrong with a spec on one machine alone: sources that only a cluster has."""
    rows = spec.task.source
    found = {
        "spec.task.source.configMap": rows.config_map if rows else None,
        "spec.model.claim": spec.model.claim,
    }
    return [
        Problem(field, "is what a cluster has: give path", value.name)
        for field, value in found.items()
        if value is not None
    ]


def cluster_problems(spec: RunSpec) -> list[Problem]:
    """What is wrong with a spec on a cluster alone: paths there lie in a claim, below its root."""
    model, rows, storage = spec.model, spec.task.source, spec.storage
    paths = {
        "spec.model.path": model.path,
        "spec.model.claim.path": model.claim.path if model.claim else None,
        "spec.task.source.path": rows.path if rows else None,
        "spec.storage.subPath": storage.sub_path if storage else None,
        **{
            f"spec.evaluation.sources[{index}].path": source.path
            for index, source in enumerate(spec.evaluation.sources or ())
        },
    }
    return [
        Problem(field, "must be a path in the claim, relative to its root and without ..", path)
        for field, path in paths.items()
        if path is not None and (path.startswith("/") or ".." in path.split("/"))
    ]


def _run_problems(spec: RunSpec) -> Iterator[Problem]:
    given = [spec.model.name, spec.model.path, spec.model.claim]
    if sum(option is not None for option in given) != 1:
        yield Problem("spec.model", "give exactly one of name, path and claim")
    if spec.model.revision is not None and spec.model.name is None:
        yield Problem("spec.model.revision", "a revision belongs to a hub id: set model.name, or remove it")
    yield from _task_problems(spec)
    yield from _evaluation_problems(spec)
    yield from _figure_problems(spec)
    if len(set(spec.seeds)) != len(spec.seeds):
        yield Problem("spec.seeds", "seeds must differ from each other", spec.seeds)
    arms = len(spec.components) * len(spec.seeds)
    if arms > MAX_ARMS:
        yield Problem("spec.components", f"components times seeds must be at most {MAX_ARMS}", arms)
    samples = any(method_of(component.preset) not in ("raw", "sft") for component in spec.components)
    if samples and spec.training.fine_tuning == "full" and spec.rollout.engine == "vllm":
        yield Problem(
            "spec.rollout.engine", "full fine-tuning samples inside the trainer: set it to transformers", "vllm"
        )
    if spec.evaluation.checkpoint == "best" and spec.evaluation.every_steps is None:
        yield Problem(
            "spec.evaluation.checkpoint", "the best checkpoint is found by probes: set evaluation.everySteps", "best"
        )
    needed = spec.success_policy.count
    if (spec.success_policy.type == "AtLeast") != (needed is not None):
        yield Problem("spec.successPolicy.count", "belongs to type AtLeast, and AtLeast needs it")
    elif needed is not None and needed > arms:
        yield Problem("spec.successPolicy.count", f"the run has only {arms} components, counted once a seed", needed)
    yield from _storage_problems(spec)


def _storage_problems(spec: RunSpec) -> Iterator[Problem]:
    storage = spec.storage
    if storage is None:
        return
    of_new_claims = ("size", "storageClassName", "accessMode", "policy")
    excluded = [field for field in of_new_claims if field in given_fields(storage)]
    if storage.existing_claim is not None and excluded:
        yield Problem("spec.storage.existingClaim", f"excludes {', '.join(of_new_claims)}: remove {excluded[0]}")
    if storage.sub_path is not None and storage.existing_claim is None:
        yield Problem("spec.storage.subPath", "belongs to existingClaim", storage.sub_path)
    if storage.access_mode == "ReadWriteOnce" and spec.trainer.num_nodes > 1:
        yield Problem(
            "spec.storage.accessMode",
            "ReadWriteOnce is mounted by one node: set trainer.numNodes to 1, or use ReadWriteMany",
            "ReadWriteOnce",
        )


def _task_problems(spec: RunSpec) -> Iterator[Problem]:
    task = spec.task
    if task.name == "custom":
        if task.source is None:
            yield Problem("spec.task.source", "task custom reads your own rows: give source.path or source.hub")
    elif task.grading is not None:
        yield Problem("spec.task.grading", f"belongs to task custom; task {task.name} has its own", task.grading)
    yield from pattern_problems(task)
    if task.name in EVALUATION_ONLY:
        yield Problem(
            "spec.task.name", "is for evaluation only: train on another, name it in evaluation.tasks", task.name
        )
    if task.subset is not None and task.name != "mbpp":
        yield Problem("spec.task.subset", "belongs to task mbpp", task.subset)
    if task.source is not None:
        origins = [task.source.hub, task.source.path, task.source.config_map]
        if sum(origin is not None for origin in origins) != 1:
            yield Problem("spec.task.source", "give exactly one of hub, path and configMap")
        if task.source.revision is not None and task.source.hub is None:
            yield Problem("spec.task.source.revision", "belongs to a hub dataset: set hub, or remove it")


def _evaluation_problems(spec: RunSpec) -> Iterator[Problem]:
    tasks = spec.evaluation.tasks or [spec.task.name]
    if len(set(tasks)) != len(tasks):
        yield Problem("spec.evaluation.tasks", "tasks must differ from each other", tasks)
    if "custom" in tasks and spec.task.name != "custom":
        yield Problem("spec.evaluation.tasks", "custom is the task of runs on rows of their own: remove it", "custom")
    sources = spec.evaluation.sources or []
    for index, source in enumerate(sources):
        path = f"spec.evaluation.sources[{index}]"
        if source.task not in tasks or source.task == spec.task.name:
            yield Problem(f"{path}.task", "must be one of evaluation.tasks, and not the run's own task", source.task)
        if source.task in [other.task for other in sources[:index]]:
            yield Problem(f"{path}.task", "has a source already", source.task)
        if (source.hub is None) == (source.path is None):
            yield Problem(path, "give exactly one of hub and path")
        if source.revision is not None and source.hub is None:
            yield Problem(f"{path}.revision", "belongs to a hub dataset: set hub, or remove it", source.revision)


def _figure_problems(spec: RunSpec) -> Iterator[Problem]:
    """What figures beside the scores need."""
    evaluation = spec.evaluation
    if evaluation.divergence and spec.rollout.engine == "vllm":
        yield Problem(
            "spec.evaluation.divergence",
            "servers tell no distributions: set rollout.engine to transformers, or measure it when the run has ended "
            "(`unisd evaluate --model RUN_DIRECTORY/COMPONENT-SEED`)",
            True,
        )
    if evaluation.samples is None:
        if evaluation.passes is not None:
            yield Problem("spec.evaluation.passes", "belongs to samples: set evaluation.samples", evaluation.passes)
        return
    most = max(evaluation.passes or [1])
    if most > evaluation.samples:
        yield Problem(
            "spec.evaluation.samples", f"pass@{most} needs {most} completions or more of each row", evaluation.samples
        )


def pattern_problems(task: Task) -> Iterator[Problem]:
    """What is wrong with how a task's own rows are graded."""
    field, pattern = "spec.task.pattern", task.pattern
    if pattern is None:
        if task.grading == "regex":
            yield Problem(field, "grading regex needs a pattern with one group, e.g. '#### (.+)'")
        return
    if task.grading != "regex":
        yield Problem(field, "belongs to grading regex", pattern)
    try:
        if not re.compile(pattern, re.MULTILINE).groups:
            yield Problem(field, "has no group: put the answer in parentheses, e.g. '#### (.+)'", pattern)
    except (re.error, OverflowError, RecursionError) as error:
        yield Problem(field, f"is no regular expression: {error}", pattern)


def _component_problems(spec: RunSpec) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    for index, component in enumerate(spec.components):
        path = f"spec.components[{index}]"
        if component.name in seen:
            first = seen[component.name]
            yield Problem(f"{path}.name", f"is already the name of spec.components[{first}]", component.name)
        seen.setdefault(component.name, index)
        yield from _mechanism_problems(spec, component, path)


def _mechanism_problems(spec: RunSpec, component: Component, path: str) -> Iterator[Problem]:
    method = method_of(component.preset)
    if method in UNREAD:
        for field in UNREAD[method]:
            if getattr(component, field) is not None:
                yield Problem(f"{path}.{field}", f"has no effect on the baseline {method}: remove it")
        if component.sampling is not None and "on_policy" in component.sampling.model_fields_set:
            yield Problem(f"{path}.sampling.onPolicy", f"has no effect on the baseline {method}: remove it")
        return
    yield from _clip_problems(component, path)
    agreement = merged_block(component, "agreement")
    count = (component.contexts and component.contexts.count) or spec.contexts.count
    if agreement is not None and count < 2:
        where = f"{path}.contexts.count" if component.contexts and component.contexts.count else "spec.contexts.count"
        yield Problem(where, "agreement compares contexts and needs at least 2: raise it, or remove agreement", count)
    on_policy = (merged_block(component, "sampling") or {}).get("onPolicy", 1.0)
    if agreement and "gate" in agreement and on_policy < 1.0:
        yield Problem(
            f"{path}.agreement.gate",
            "goes by surprisal at sampling, which references have none of: remove one of the two",
        )
    if agreement and agreement.get("scale") == "quantile" and agreement.get("level") == "sequence":
        yield Problem(f"{path}.agreement.scale", "quantile belongs to level token: use absolute", "quantile")
    if (merged_block(component, "features") or {}).get("alone"):
        for field in ("agreement", "clip"):
            if merged_block(component, field) is not None:
                yield Problem(f"{path}.{field}", "acts on the divergence, which features.alone leaves out: remove one")
    training = training_of(spec, component)
    if training.loss_tokens_to_skip >= training.max_completion_tokens:
        yield Problem(
            f"{path}.training.lossTokensToSkip" if component.training else "spec.training.lossTokensToSkip",
            f"leaves no token to learn from: it must be below training.maxCompletionTokens "
            f"({training.max_completion_tokens})",
            training.loss_tokens_to_skip,
        )


def _clip_problems(component: Component, path: str) -> Iterator[Problem]:
    clip = given_fields(component.clip) if component.clip is not None else merged_block(component, "clip")
    if clip is None:
        return
    if len(clip) != 1:
        yield Problem(f"{path}.clip", "give exactly one of value and quantile", clip or None)
        return
    alpha = (merged_block(component, "divergence") or {}).get("alpha", 0.0)
    bound = divergence_bound(alpha)
    if clip.get("value", 0.0) >= bound:
        yield Problem(
            f"{path}.clip.value",
            f"never acts: the divergence with alpha {alpha} stays below {bound:.4f} nats; choose a smaller value",
            clip["value"],
        )
