"""What the API server refuses beyond types and bounds: one table of CEL rules, read by `schema`.

Every rule is evaluated at each write, those of status too, and a field that is read costs more than what is done with
it: the rules read few, and first what is mostly missing.

`unisd.config.problems` says the same for one machine, and the corpus in tests/operator/api holds the two together.
Left to it alone, since CEL cannot know: LEFT_TO_THE_OPERATOR.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from unisd.config.cluster import RESERVED_LABELS
from unisd.config.presets import PRESETS
from unisd.config.problems import MAX_ARMS, UNREAD
from unisd.config.run import RunSpec
from unisd.config.task import EVALUATION_ONLY

LEFT_TO_THE_OPERATOR = (
    "`clip.value` at or above the bound of the chosen divergence (a logarithm), which would never act",
    "whether `task.pattern` is a regular expression with a group",
    "whether models, revisions, rows, claims, Secrets and ConfigMaps exist, and rows are enough for what is asked",
    "Kubernetes' own types inside `pod` blocks (tolerations, affinity, volumes, …), which the API server checks when "
    "the pods are made; likewise names of resources, and requests within limits",
)
"""Shown as Stalled with reason InvalidSpec before any pod exists, or as the failure of the stage that finds it."""

MUTABLE = frozenset(
    {
        "suspend",
        "parallelism",
        "activeDeadlineSeconds",
        "preRunningDeadlineSeconds",
        "progressDeadlineSeconds",
        "ttlSecondsAfterFinished",
        "backoffLimit",
    }
)
"""Fields of the spec that may change; all else is the experiment itself."""


@dataclass(frozen=True)
class Rule:
    """One rule: where it stands, what holds, and what to tell when it does not."""

    path: str
    """Block that is `self`, e.g. `spec.components[]`."""
    rule: str
    """CEL; true when all is well."""
    message: str
    """What is wrong and the way out."""
    field: str = ""
    """Field below the block that the error names, e.g. `.clip`."""
    reason: Literal["FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired"] = "FieldValueInvalid"

    def as_json(self) -> dict[str, Any]:
        """The rule as the schema has it."""
        place = {"fieldPath": self.field} if self.field else {}
        return {"rule": self.rule, "message": self.message, "reason": self.reason, **place}


def _listed(words: Iterable[str]) -> str:
    return "[" + ", ".join(f"'{word}'" for word in words) + "]"


# Of a component, {it}, after its preset was merged.
_PRESET = "{it}.?preset.orValue('')"


def _has(block: str) -> str:
    """Whether a component has a block, by itself or by its preset."""
    return f"(has({{it}}.{block}) || {_PRESET} in {_listed(name for name, sets in PRESETS.items() if block in sets)})"


def _value(block: str, field: str, default: str) -> str:
    """A component's value: its own, else its preset's, else `default`, all written as in CEL."""
    found = default
    for name, sets in PRESETS.items():
        value = sets.get(block, {}).get(field)
        if value is not None and (literal := json.dumps(value).replace('"', "'")) != default:
            found = f"({_PRESET} == '{name}' ? {literal} : {found})"
    return f"{{it}}.?{block}.?{field}.orValue({found})"


_TEACHES = f"!({_PRESET} in {_listed(UNREAD)})"
_SAMPLES = f"!({_PRESET} in ['raw', 'sft'])"
_AGREES = _has("agreement")
_CLIPS = _has("clip")
_LEVEL = _value("agreement", "level", "'token'")
_ON_POLICY = _value("sampling", "onPolicy", "1.0")
_ALONE = _value("features", "alone", "false")
_SKIPPED = _value("training", "lossTokensToSkip", "self.?training.?lossTokensToSkip.orValue(0)")
_BELOW_ROOT = r"!self.matches('^/|(^|/)[.][.](/|$)')"
_IN_CLAIM = "must be a path in the claim, relative to its root and without .."


def _unread_by() -> dict[str, list[str]]:
    """Blocks of a component, and the baselines that do not read them."""
    blocks = dict.fromkeys(block for unread in UNREAD.values() for block in unread)
    return {block: [preset for preset, unread in UNREAD.items() if block in unread] for block in blocks}


def _of(expression: str, it: str = "self") -> str:
    return expression.replace("{it}", it)


def _one_of(*fields: str) -> str:
    return f"[{', '.join(f'has(self.{field})' for field in fields)}].filter(given, given).size() == 1"


_RUN = (
    Rule(
        "spec",
        f"self.components.size() * self.?seeds.orValue([1]).size() <= {MAX_ARMS}",
        f"components times seeds must be at most {MAX_ARMS}",
        ".components",
    ),
    Rule(
        "spec",
        "self.?contexts.?count.orValue(3) >= 2"
        f" || self.components.all(c, c.?contexts.?count.hasValue() || !{_of(_AGREES, 'c')})",
        "agreement compares contexts and needs at least 2: raise it, or remove agreement",
        ".contexts.count",
    ),
    Rule(
        "spec",
        "self.?training.?fineTuning.orValue('lora') != 'full' || self.?rollout.?engine.orValue('vllm') != 'vllm'"
        f" || !self.components.exists(c, {_of(_SAMPLES, 'c')})",
        "full fine-tuning samples inside the trainer: set it to transformers",
        ".rollout.engine",
    ),
    Rule(
        "spec",
        f"self.components.all(c, !({_of(_TEACHES, 'c')})"
        f" || {_of(_SKIPPED, 'c')} < self.?training.?maxCompletionTokens.orValue(1024))",
        "leaves no token to learn from: it must be below training.maxCompletionTokens, in every component",
        ".training.lossTokensToSkip",
    ),
    Rule(
        "spec",
        "self.?successPolicy.?count.orValue(1) <= self.components.size() * self.?seeds.orValue([1]).size()",
        "the run has fewer components, counted once a seed",
        ".successPolicy.count",
    ),
    Rule(
        "spec",
        "self.?storage.?accessMode.orValue('') != 'ReadWriteOnce' || self.?trainer.?numNodes.orValue(1) == 1",
        "ReadWriteOnce is mounted by one node: set trainer.numNodes to 1, or use ReadWriteMany",
        ".storage.accessMode",
    ),
    Rule(
        "spec",
        "self.task.name == 'custom' || !has(self.evaluation) || !has(self.evaluation.tasks)"
        " || !('custom' in self.evaluation.tasks)",
        "custom is the task of runs on rows of their own: remove it",
        ".evaluation.tasks",
    ),
    Rule(
        "spec",
        "!has(self.evaluation) || !has(self.evaluation.sources) || self.evaluation.sources.all(source,"
        " has(self.evaluation.tasks) && source.task in self.evaluation.tasks && source.task != self.task.name)",
        "must be of evaluation.tasks, and not of the run's own task",
        ".evaluation.sources",
    ),
    Rule(
        "spec",
        "!self.?evaluation.?divergence.orValue(false) || self.?rollout.?engine.orValue('vllm') != 'vllm'",
        "servers tell no distributions: set rollout.engine to transformers, or measure it when the run has ended",
        ".evaluation.divergence",
    ),
    Rule(
        "spec.successPolicy",
        "(self.?type.orValue('All') == 'AtLeast') == has(self.count)",
        "belongs to type AtLeast, and AtLeast needs it",
        ".count",
    ),
    Rule(
        "spec.evaluation",
        "self.?checkpoint.orValue('last') != 'best' || has(self.everySteps)",
        "the best checkpoint is found by probes: set evaluation.everySteps",
        ".checkpoint",
    ),
    Rule(
        "spec.evaluation",
        "!has(self.passes) || has(self.samples)",
        "belongs to samples: set evaluation.samples",
        ".passes",
    ),
    Rule(
        "spec.evaluation",
        "!has(self.samples) || !has(self.passes) || self.passes.all(k, k <= self.samples)",
        "pass@k needs k completions or more of each row",
        ".samples",
    ),
    Rule("spec.evaluation.sources[]", _one_of("hub", "path"), "give exactly one of hub and path"),
    Rule(
        "spec.evaluation.sources[]",
        "!has(self.revision) || has(self.hub)",
        "belongs to a hub dataset: set hub, or remove it",
        ".revision",
    ),
    Rule("spec.evaluation.sources[].path", _BELOW_ROOT, _IN_CLAIM),
)
_MODEL = (
    Rule("spec.model", _one_of("name", "path", "claim"), "give exactly one of name, path and claim"),
    Rule(
        "spec.model",
        "!has(self.revision) || has(self.name)",
        "a revision belongs to a hub id: set model.name, or remove it",
        ".revision",
    ),
    Rule("spec.model.path", _BELOW_ROOT, _IN_CLAIM),
    Rule("spec.model.claim.path", _BELOW_ROOT, _IN_CLAIM),
)
_TASK = (
    Rule(
        "spec.task",
        f"!(self.name in {_listed(sorted(EVALUATION_ONLY))})",
        "is for evaluation only: train on another, name it in evaluation.tasks",
        ".name",
    ),
    Rule(
        "spec.task",
        "self.name != 'custom' || has(self.source)",
        "task custom reads your own rows: give source.path or source.hub",
        ".source",
        "FieldValueRequired",
    ),
    Rule(
        "spec.task",
        "self.name == 'custom' || !has(self.grading)",
        "belongs to task custom; every other task has its own",
        ".grading",
    ),
    Rule(
        "spec.task",
        "self.?grading.orValue('') != 'regex' || has(self.pattern)",
        "grading regex needs a pattern with one group, e.g. '#### (.+)'",
        ".pattern",
        "FieldValueRequired",
    ),
    Rule(
        "spec.task",
        "self.?grading.orValue('') == 'regex' || !has(self.pattern)",
        "belongs to grading regex",
        ".pattern",
    ),
    Rule("spec.task", "self.name == 'mbpp' || !has(self.subset)", "belongs to task mbpp", ".subset"),
    Rule("spec.task.source", _one_of("hub", "path", "configMap"), "give exactly one of hub, path and configMap"),
    Rule(
        "spec.task.source",
        "!has(self.revision) || has(self.hub)",
        "belongs to a hub dataset: set hub, or remove it",
        ".revision",
    ),
    Rule("spec.task.source.path", _BELOW_ROOT, _IN_CLAIM),
)
_STORAGE = (
    Rule(
        "spec.storage",
        "!has(self.existingClaim)"
        " || !(has(self.size) || has(self.storageClassName) || has(self.accessMode) || has(self.policy))",
        "excludes size, storageClassName, accessMode, policy: remove them",
        ".existingClaim",
    ),
    Rule("spec.storage", "!has(self.subPath) || has(self.existingClaim)", "belongs to existingClaim", ".subPath"),
    Rule("spec.storage.subPath", _BELOW_ROOT, _IN_CLAIM),
)
_COMPONENT = (
    *(
        Rule(
            "spec.components[]",
            f"!has(self.{block}) || !({_of(_PRESET)} in {_listed(presets)})",
            f"has no effect on the baseline{'s' * (len(presets) > 1)} {', '.join(presets)}: remove it",
            f".{block}",
        )
        for block, presets in _unread_by().items()
    ),
    Rule(
        "spec.components[]",
        f"!has(self.sampling) || !has(self.sampling.onPolicy) || {_of(_TEACHES)}",
        "has no effect on a baseline without a teacher: remove it",
        ".sampling.onPolicy",
    ),
    Rule(
        "spec.components[]",
        f"self.?contexts.?count.orValue(2) >= 2 || !{_of(_AGREES)}",
        "agreement compares contexts and needs at least 2: raise it, or remove agreement",
        ".contexts.count",
    ),
    Rule(
        "spec.components[]",
        f"self.?agreement.?scale.orValue('absolute') != 'quantile' || {_of(_LEVEL)} == 'token'",
        "quantile belongs to level token: use absolute",
        ".agreement.scale",
    ),
    Rule(
        "spec.components[]",
        f"!{_of(_ALONE)} || !{_of(_AGREES)}",
        "acts on the divergence, which features.alone leaves out: remove one",
        ".agreement",
    ),
    Rule(
        "spec.components[]",
        f"!{_of(_ALONE)} || !{_of(_CLIPS)}",
        "acts on the divergence, which features.alone leaves out: remove one",
        ".clip",
    ),
    Rule(
        "spec.components[]",
        f"!has(self.agreement) || !has(self.agreement.gate) || {_of(_ON_POLICY)} >= 1.0",
        "goes by surprisal at sampling, which references have none of: remove one of the two",
        ".agreement.gate",
    ),
    Rule("spec.components[].clip", "has(self.value) != has(self.quantile)", "give exactly one of value and quantile"),
)
_PODS = tuple(
    Rule(
        f"spec.{block}.pod.labels",
        " && ".join(f"!self.exists(label, label.startsWith('{reserved}'))" for reserved in RESERVED_LABELS),
        "labels of unisd.dev/, kueue.x-k8s.io/ and app.kubernetes.io/managed-by are the operator's own: choose another "
        "(for Kueue, spec.queueName)",
    )
    for block in ("preparation", "rollout", "trainer", "evaluation")
)


def _kept(field: str, required: bool) -> str:
    """Neither adding nor removing a field passes unseen."""
    same = f"self.{field} == oldSelf.{field}"
    return same if required else f"has(self.{field}) ? has(oldSelf.{field}) && {same} : !has(oldSelf.{field})"


_IMMUTABLE = tuple(
    Rule(
        "spec",
        _kept(field, required),
        f"{field} is immutable: make another run (it can use the same claim, and finds what is prepared there)",
        f".{field}",
        "FieldValueForbidden",
    )
    for field, required in ((info.alias or name, info.is_required()) for name, info in RunSpec.model_fields.items())
    if field not in MUTABLE
)

RULES: tuple[Rule, ...] = (*_RUN, *_MODEL, *_TASK, *_STORAGE, *_COMPONENT, *_PODS, *_IMMUTABLE)
"""All rules, in the order in which the API server tells them."""
