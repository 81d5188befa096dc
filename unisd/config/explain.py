"""What a preset resolves to, in words: every value with its unit and reason, from the models' own descriptions."""

import yaml
from pydantic import BaseModel

from unisd.config.model import Model
from unisd.config.presets import PRESETS, SUMMARIES, PresetName
from unisd.config.resolve import Objective, resolve
from unisd.config.run import Component, RunSpec
from unisd.config.task import Task


def preset_lines() -> list[str]:
    """A line for each preset."""
    return [f"{name:26}{SUMMARIES[name]}" for name in PRESETS]


def explain(preset: PresetName) -> str:
    """What a component with only this preset is, over the defaults of a run."""
    spec = RunSpec(
        model=Model(name="any/model"), task=Task(name="cos_e"), components=[Component(name="it", preset=preset)]
    )
    arm = resolve(spec)[0]
    lines = [f"{preset}: {SUMMARIES[preset]}", ""]
    if PRESETS[preset]:
        lines += ["sets", *_indented(yaml.safe_dump(PRESETS[preset], sort_keys=False).splitlines()), ""]
    if arm.samples:
        lines += ["resolves to", *_indented(_objective_lines(arm.objective)), ""]
    if arm.samples or arm.method == "ssd":
        fields = ("temperature", "top_p", "top_k", *(("on_policy",) if arm.samples else ()))
        lines += ["samples with", *_indented(_described(arm.sampling, fields))]
    if arm.objective.agreement is not None:
        lines += ["", "with contexts", *_indented(_described(arm.contexts, ("count", "source", "layout")))]
    if arm.trains:
        lines += ["", "trained with", *_indented(_described(arm.training, _TRAINING))]
    return "\n".join(lines)


_TRAINING = (
    "learning_rate",
    "schedule",
    "warmup_ratio",
    "epochs",
    "per_device_batch_size",
    "gradient_accumulation_steps",
    "mask_truncated",
    "loss_tokens_to_skip",
)


def _objective_lines(objective: Objective) -> list[str]:
    lines = [f"temperature: {objective.temperature}  # τ of the divergence"]
    for field in ("divergence", "agreement", "ema", "contrastive", "features", "clip"):
        block = getattr(objective, field)
        if block is not None:
            lines += [f"{field}:", *_indented(_described(block, tuple(type(block).model_fields)))]
    return lines


def _described(block: BaseModel, fields: tuple[str, ...]) -> list[str]:
    lines = []
    for name in fields:
        value = getattr(block, name)
        if value is not None:
            described = type(block).model_fields[name]
            lines.append(f"{described.alias or name}: {value}  # {' '.join((described.description or '').split())}")
    return lines


def _indented(lines: list[str]) -> list[str]:
    return [f"  {line}" for line in lines]
