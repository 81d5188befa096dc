"""The flags that users of the research code know, and the field of the manifest that each stands for.

One table, read by `unisd train` and `unisd experiments`. Flags name fields of a component where the field may differ
between components of one run, and fields of the run elsewhere. Pure; docs/cli.md shows the table.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Flag:
    """One flag."""

    name: str
    """Its name in the research code, in underscores; dashes are accepted too."""
    field: str
    """The field it sets: below `component` or below `spec`."""
    tag: str
    """What it is called in names of components and runs."""
    kind: Callable[[str], Any]
    """From text to value."""
    help: str
    others: tuple[str, ...] = ()
    """Other names for the same."""

    @property
    def of_component(self) -> bool:
        """Whether it sets a field of a component."""
        return self.field.startswith("component.")

    @property
    def spellings(self) -> tuple[str, ...]:
        """All spellings on the command line."""
        return tuple(spelling for name in (self.name, *self.others) for spelling in spellings(name))


def spellings(name: str) -> tuple[str, ...]:
    """A flag with underscores and with dashes; one where they are the same."""
    return tuple(dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}")))


FLAGS: tuple[Flag, ...] = (
    Flag("num_auxiliary_contexts", "component.contexts.count", "k", int, "auxiliary contexts K", ("num_contexts",)),
    Flag("num_demos", "component.contexts.demonstrationsPerContext", "d", int, "solved examples in each context"),
    Flag("fewshot_method", "component.contexts.source", "", str, "random, retrieval or induction"),
    Flag("gamma_agreement", "component.agreement.gamma", "g", float, "strength γ of agreement", ("gamma",)),
    Flag("agreement_stat", "component.agreement.statistic", "", str, "var (variance) or range"),
    Flag("agreement_scale", "component.agreement.scale", "", str, "absolute, or quantile as in the research code"),
    Flag("ref_model_mixup_beta", "component.ema.decay", "b", float, "weight β of the old teacher", ("beta", "decay")),
    Flag(
        "ref_model_sync_steps", "component.ema.everySteps", "every", int, "steps between two updates", ("sync_steps",)
    ),
    Flag("contrastive_weight", "component.contrastive.weight", "w", float, "weight of the contrastive term"),
    Flag("contrastive_margin", "component.contrastive.margin", "m", float, "margin of its hinge, nats", ("margin",)),
    Flag("final_layer_distill_weight", "component.features.weight", "f", float, "weight of feature matching"),
    Flag("alpha", "component.divergence.alpha", "a", float, "0 forward KL, 1 reverse KL, between Jensen-Shannon"),
    Flag("token_clip", "component.clip.value", "clip", float, "bound on a token's divergence, nats"),
    Flag("token_clip_quantile", "component.clip.quantile", "q", float, "the bound as a quantile of the step before"),
    Flag("learning_rate", "component.training.learningRate", "lr", float, "peak learning rate"),
    Flag("num_train_epochs", "component.training.epochs", "e", int, "passes over the training rows", ("epochs",)),
    Flag("max_steps", "component.training.maxSteps", "s", int, "optimiser steps at most"),
    Flag("per_device_train_batch_size", "component.training.perDeviceBatchSize", "bs", int, "rows of one pass"),
    Flag("gradient_accumulation_steps", "component.training.gradientAccumulationSteps", "ga", int, "passes a step"),
    Flag("warmup_ratio", "component.training.warmupRatio", "wu", float, "share of steps with a rising rate"),
    Flag("weight_decay", "component.training.weightDecay", "wd", float, "AdamW's weight decay"),
    Flag("temperature", "spec.rollout.temperature", "t", float, "temperature τ of sampling and of the divergence"),
    Flag("max_prompt_length", "spec.training.maxPromptTokens", "p", int, "longest prompt, tokens"),
    Flag("max_completion_length", "spec.training.maxCompletionTokens", "c", int, "longest completion, tokens"),
    Flag("lora_r", "spec.model.lora.rank", "r", int, "rank of the adapters"),
    Flag("lora_alpha", "spec.model.lora.alpha", "la", int, "scaling numerator of the adapters"),
    Flag("fine_tuning", "spec.training.fineTuning", "", str, "lora or full"),
    Flag("precision", "spec.training.precision", "", str, "bfloat16 or float32"),
    Flag("layout", "spec.contexts.layout", "", str, "marker or turns"),
    Flag("retriever", "spec.contexts.retriever", "", str, "embedding or bm25"),
    Flag("max_train_examples", "spec.task.maxTrainExamples", "n", int, "training rows at most"),
    Flag("max_eval_examples", "spec.task.maxEvalExamples", "ne", int, "evaluation rows at most"),
)
BY_NAME: dict[str, Flag] = {flag.name: flag for flag in FLAGS}

WEIGHT_OF = {
    "contrastive": "contrastive_weight",
    "match_joint": "final_layer_distill_weight",
    "match_repr": "final_layer_distill_weight",
}
"""What `--weight` means, by mode."""
_STATISTICS = {"var": "variance"}


def component_fields(values: Values) -> dict[str, Any]:
    """The fields of a component that flags set."""
    return _fields(values, of_component=True)


def spec_fields(values: Values) -> dict[str, Any]:
    """The fields of a run's spec that flags set."""
    return _fields(values, of_component=False)


def _fields(values: Values, *, of_component: bool) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in values.items():
        flag = BY_NAME[name]
        if flag.of_component is not of_component:
            continue
        *path, last = flag.field.split(".")[1:]
        block = tree
        for part in path:
            block = block.setdefault(part, {})
        block[last] = _STATISTICS.get(value, value) if name == "agreement_stat" else value
    return tree


def tags(values: Values, *, of_component: bool) -> list[str]:
    """What flags add to a name; two different values never read the same."""
    return [
        f"{BY_NAME[name].tag}{value}".removesuffix(".0").replace(".", "p")
        for name, value in values.items()
        if BY_NAME[name].of_component is of_component
    ]
