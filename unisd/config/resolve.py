"""From a manifest to what actually runs: presets merged, overrides applied, one arm per component and seed.

Pure. A spec without `problems` resolves.
"""

from typing import Any

from unisd.config.base import Config
from unisd.config.evaluation import EvaluationSource
from unisd.config.objective import Agreement, Clip, Contrastive, Divergence, Ema, Features
from unisd.config.presets import PRESETS, Method, PresetName, method_of
from unisd.config.run import Component, RunSpec
from unisd.config.sampling import Sampling
from unisd.config.task import Contexts, Source, Task, TaskName
from unisd.config.training import Training


class Objective(Config):
    """The mechanisms of one component, with every default filled in."""

    temperature: float
    divergence: Divergence = Divergence()
    agreement: Agreement | None = None
    ema: Ema | None = None
    contrastive: Contrastive | None = None
    features: Features | None = None
    clip: Clip | None = None


class Arm(Config):
    """One component at one seed, completely resolved: what a training job is given."""

    component: str
    """Name of the component."""
    seed: int
    """Training seed."""
    method: Method
    """Algorithm: `unisd` or a baseline."""
    preset: PresetName | None
    """The preset it came from, if any."""
    objective: Objective
    """Mechanisms."""
    sampling: Sampling
    """What completions this arm learns on; its temperature is filled in."""
    contexts: Contexts
    """Auxiliary contexts of this arm."""
    training: Training
    """Training settings of this arm."""

    @property
    def name(self) -> str:
        """Name of the arm in paths, metrics and reports, e.g. `star-1`."""
        return f"{self.component}-{self.seed}"

    @property
    def trains(self) -> bool:
        """Whether the arm has a training stage; `raw` has none."""
        return self.method != "raw"

    @property
    def trains_whole_model(self) -> bool:
        """Whether all weights are trained in place of adapters."""
        return self.trains and self.training.fine_tuning == "full"

    @property
    def samples(self) -> bool:
        """Whether training needs completions of the student as it is."""
        return self.method not in ("raw", "sft", "ssd")

    @property
    def induces(self) -> bool:
        """Whether its auxiliary contexts are induced instructions."""
        return self.objective.agreement is not None and self.contexts.source == "induction"

    @property
    def needs_texts(self) -> bool:
        """Whether the base model has to write something before it can train."""
        return self.induces or self.objective.contrastive is not None or self.method == "ssd"


def resolve(spec: RunSpec) -> tuple[Arm, ...]:
    """All arms of a valid spec, components in the manifest's order, seeds within them."""
    return tuple(_arm(spec, component, seed) for component in spec.components for seed in spec.seeds)


def evaluated_tasks(spec: RunSpec) -> tuple[Task, ...]:
    """The tasks that every component is scored on, each with where its rows come from."""
    given = {source.task: source for source in spec.evaluation.sources or ()}
    return tuple(
        spec.task if name == spec.task.name else _other_task(spec, name, given.get(name))
        for name in spec.evaluation.tasks or [spec.task.name]
    )


def _other_task(spec: RunSpec, name: TaskName, given: EvaluationSource | None) -> Task:
    source = None if given is None else Source(hub=given.hub, revision=given.revision, path=given.path)
    return Task(name=name, source=source, seed=spec.task.seed, max_eval_examples=spec.task.max_eval_examples)


def training_of(spec: RunSpec, component: Component) -> Training:
    """The training settings of a component: the run's, then the preset's, then its own."""
    return Training.model_validate({**given_fields(spec.training), **(merged_block(component, "training") or {})})


def given_fields(block: Config | None) -> dict[str, Any]:
    """What a manifest gives of a block, under the manifest's names."""
    return {} if block is None else block.model_dump(by_alias=True, exclude_unset=True, exclude_none=True)


def merged_block(component: Component, field: str) -> dict[str, Any] | None:
    """A component's block, over its preset's; None where neither has one."""
    preset = PRESETS[component.preset] if component.preset else {}
    own = getattr(component, field)
    if own is None and field not in preset:
        return None
    return {**preset.get(field, {}), **given_fields(own)}


def _arm(spec: RunSpec, component: Component, seed: int) -> Arm:
    blocks = {
        field: merged
        for field in ("divergence", "agreement", "ema", "contrastive", "features", "clip")
        if (merged := merged_block(component, field)) is not None
    }
    if "value" in given_fields(component.clip):
        blocks["clip"] = given_fields(component.clip)
    if "agreement" in blocks:
        blocks["agreement"] = {"gamma": Agreement.model_validate(blocks["agreement"]).strength, **blocks["agreement"]}
    contexts = {**given_fields(spec.contexts), **(merged_block(component, "contexts") or {})}
    sampling = merged_block(component, "sampling") or {}
    divided_by = blocks.get("divergence", {}).get("temperature", spec.rollout.temperature)
    return Arm(
        component=component.name,
        seed=seed,
        method=method_of(component.preset),
        preset=component.preset,
        objective=Objective.model_validate({"temperature": divided_by, **blocks}),
        sampling=Sampling.model_validate({"temperature": spec.rollout.temperature, **sampling}),
        contexts=Contexts.model_validate(contexts),
        training=training_of(spec, component),
    )
