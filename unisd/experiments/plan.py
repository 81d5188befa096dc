"""Which runs a call of `unisd experiments` or `unisd train` stands for, as plain data. Writes no file.

One run for each model, data set and value of a run's own settings; in it one component for each mode and value of the
components' settings, so that they share rows, contexts and the report that compares them. A run's name ends in a digest
of all that it says: the same call names the same runs, which is what resuming goes by, and no two runs share a name.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from unisd.config.choices import Engine
from unisd.config.model import is_path
from unisd.config.names import API_VERSION, KIND
from unisd.config.presets import PRESETS, PresetName
from unisd.config.problems import MAX_ARMS
from unisd.config.run import MAX_COMPONENTS, MAX_RUN_NAME
from unisd.config.task import TaskName
from unisd.experiments.flags import BY_NAME, Values, component_fields, spec_fields, tags

Manifest = dict[str, Any]
DEFAULT_MODEL = "Qwen/Qwen2.5-7B-Instruct"
CROSS_EVALUATION: dict[str, tuple[TaskName, ...]] = {"scienceqa": ("gpqa",), "mbpp": ("humaneval",)}
_TASKS: dict[str, TaskName] = {
    "tooluse": "toolalpaca",
    "scienceqa-all": "scienceqa",
    "mbpp-full": "mbpp",
    "mbpp-sanitized": "mbpp",
}
_LIMITED = re.compile(r"(.+)-max([1-9][0-9]*)")
_SHORT = {
    "agreement": "",
    "unisd": "",
    "induction": "ind",
    "retrieval": "ret",
    "random": "rand",
    "contrastive": "contrast",
}
_COMPONENT_NAME = 20


@dataclass(frozen=True)
class Experiment:
    """Everything that a call lists; its runs are the product."""

    title: str
    """What the runs' names begin with."""
    modes: Sequence[PresetName]
    datasets: Sequence[str]
    models: Sequence[str] = (DEFAULT_MODEL,)
    seeds: Sequence[int] = (1,)
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Values of each flag."""
    baselines: Sequence[PresetName] = ()
    """Components that come first; of the grid they have what they train by."""
    engine: Engine = "transformers"
    sources: Mapping[str, str] = field(default_factory=dict)
    """Local rows, by task."""
    cross_evaluate: bool = False
    parallelism: int = 1
    """Components of a run at once, where they do not each have a GPU of this machine; no part of a run's name."""


def manifests(experiment: Experiment) -> list[Manifest]:
    """The runs of an experiment, in the order of what was listed.

    Raises:
        ValueError: a data set that no task is named after, or rows or a temperature that nothing reads.
    """
    _check_sources(experiment)
    _check_temperature(experiment)
    found = []
    for model, dataset in itertools.product(experiment.models, experiment.datasets):
        for values in _points(experiment.grid):
            found += list(_runs(experiment, model, dataset, values))
    unique = {manifest["metadata"]["name"]: manifest for manifest in found}
    return list(unique.values())


def _check_sources(experiment: Experiment) -> None:
    """Raises ValueError for local rows of a task that no run has."""
    tasks = [task_name(dataset) for dataset in experiment.datasets]
    if experiment.cross_evaluate:
        tasks += [other for task in tasks for other in CROSS_EVALUATION.get(task, ())]
    for name in experiment.sources:
        if name not in tasks:
            raise ValueError(f"--source: rows of {name} are read by no run; tasks are {', '.join(tasks)}")


def _check_temperature(experiment: Experiment) -> None:
    """Raises ValueError for a temperature that a mode would not sample at, because its definition fixes one."""
    for mode in experiment.modes if "temperature" in experiment.grid else ():
        own = PRESETS[mode].get("sampling", {}).get("temperature")
        if own is not None:
            raise ValueError(
                f"--temperature: {mode} samples at its own, {own}: leave it out, or set sampling.temperature of the "
                "component in the manifest that --dry-run prints"
            )


def _points(grid: Mapping[str, Sequence[Any]]) -> list[Values]:
    """The values of the settings that a whole run has."""
    return _product({name: values for name, values in grid.items() if not BY_NAME[name].of_component})


def _product(grid: Mapping[str, Sequence[Any]]) -> list[Values]:
    return [dict(zip(grid, point, strict=True)) for point in itertools.product(*grid.values())]


def _runs(experiment: Experiment, model: str, dataset: str, values: Values) -> Iterator[Manifest]:
    """The runs of one model and data set: one, or several where there are more components than a run may have."""
    own = {name: each for name, each in experiment.grid.items() if BY_NAME[name].of_component}
    shared = {name: each for name, each in own.items() if BY_NAME[name].field.startswith("component.training.")}
    first = [
        each for preset in experiment.baselines for each in _components([preset], {} if preset == "raw" else shared)
    ]
    components = _components(experiment.modes, own)
    room = min(MAX_COMPONENTS, MAX_ARMS // len(experiment.seeds)) - len(first)
    for start in range(0, len(components), max(room, 1)):
        spec = _spec(experiment, model, dataset, values)
        spec["components"] = [*first, *components[start : start + room]]
        parts = [experiment.title, dataset, *tags(values, of_component=False), _short(model)]
        yield {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": _name(parts, MAX_RUN_NAME, _digest(spec))},
            "spec": {**spec, "parallelism": experiment.parallelism} if experiment.parallelism > 1 else spec,
        }


def _components(presets: Sequence[PresetName], grid: Mapping[str, Sequence[Any]]) -> list[Manifest]:
    found = {}
    for preset in presets:
        for values in _product(grid):
            name = _component_name(preset, tags(values, of_component=True))
            found[name] = {"name": name, "preset": preset, **component_fields(values)}
    return list(found.values())


def _spec(experiment: Experiment, model: str, dataset: str, values: Values) -> Manifest:
    given = spec_fields(values)
    task = task_of(dataset, experiment.sources)
    spec: Manifest = {
        **given,
        "model": {**_model(model), **given.get("model", {})},
        "task": {**task, **given.get("task", {})},
        "rollout": {"engine": experiment.engine, **given.get("rollout", {})},
        "seeds": list(experiment.seeds),
    }
    others = CROSS_EVALUATION.get(task["name"], ()) if experiment.cross_evaluate else ()
    if others:
        sources = [{"task": name, "path": experiment.sources[name]} for name in others if name in experiment.sources]
        spec["evaluation"] = {"tasks": [task["name"], *others], **({"sources": sources} if sources else {})}
    return spec


def _model(name: str) -> Manifest:
    if is_path(name):
        return {"path": str(Path(name).expanduser().absolute())}
    hub, _, revision = name.partition("@")
    return {"name": hub, "revision": revision} if revision else {"name": hub}


def _short(model: str) -> str:
    return Path(model).name.removesuffix(".gguf").removesuffix("-Instruct")


def task_name(dataset: str) -> TaskName:
    """The task that a data set of the research code is, whatever its subset and its limit.

    Raises:
        ValueError: there is none.
    """
    called, _ = _limited(dataset)
    name = _TASKS.get(called, called)
    for task in get_args(TaskName):
        if task == name:
            found: TaskName = task
            return found
    known = ", ".join([*get_args(TaskName), *_TASKS])
    raise ValueError(f"no data set {dataset!r}; known: {known}; -maxN after it takes N training rows")


def _limited(dataset: str) -> tuple[str, int | None]:
    limited = _LIMITED.fullmatch(dataset)
    return (limited[1], int(limited[2])) if limited else (dataset, None)


def task_of(dataset: str, sources: Mapping[str, str]) -> Manifest:
    """The block `task` of a manifest that a data set stands for. Raises ValueError as `task_name` does."""
    name, (called, most) = task_name(dataset), _limited(dataset)
    task: Manifest = {"name": name}
    if name == "mbpp" and called != "mbpp":
        task["subset"] = called.removeprefix("mbpp-")
    if name in sources:
        task["source"] = {"path": sources[name]}
    if most is not None:
        task["maxTrainExamples"] = most
    return task


def _component_name(mode: str, extra: Sequence[str]) -> str:
    parts = [_SHORT.get(part, part) for part in mode.split("_")]
    return _name([part for part in [*parts, *extra] if part], _COMPONENT_NAME)


def _name(parts: Sequence[str], most: int, digest: str = "") -> str:
    """A DNS label: the parts, and a digest if there is one to tell or the parts are too long."""
    text = re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")
    if not digest:
        if len(text) <= most:
            return text
        digest = _digest(list(parts))[:4]
    return f"{text[: most - 1 - len(digest)].rstrip('-')}-{digest}"


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:6]
