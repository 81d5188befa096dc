"""What every training of a component shares, whatever it learns: steps, guards, checkpoints, metrics, stopping.

A mixin for TRL's trainers. One batch of the data loader holds the rows of one whole optimiser step; a subclass turns
them into gradients in `learn`, and everything around that is here. Transformers' loop keeps the optimiser, the
schedule and the moments.
"""

import json
import math
import random
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import TrainerCallback

from unisd.config.resolve import Arm
from unisd.failures import StageError
from unisd.metrics.memory import peak_memory_gib
from unisd.metrics.progress import Progress
from unisd.rundir import write_json
from unisd.training.checkpoint import complete_directory, keep_newest, staging_of
from unisd.training.guard import GuardWindow
from unisd.training.sampler import StepSampler

STATE = "unisd_state.json"
Metrics = dict[str, float]
Probe = Callable[[Any, int], float]


@dataclass
class StopFlag:
    """Set by a signal handler, looked at between forward passes."""

    raised: bool = False

    def set(self, *_signal: object) -> None:
        """Asks training to stop at the next safe moment."""
        self.raised = True


class StepInterrupted(Exception):  # noqa: N818 - not an error: training was asked to stop
    """The open step was dropped because training was asked to stop."""


@dataclass
class LoopContext:
    """What a training is given besides model, rows and hyperparameters."""

    arm: Arm
    directory: Path
    sampler: StepSampler
    progress: Progress = field(default_factory=Progress)
    stop: StopFlag = field(default_factory=StopFlag)
    probe: Probe | None = None
    probe_every: int | None = None
    log: Callable[[str], None] = lambda _line: None
    earlier: Sequence[Path] = ()
    """Directories of earlier attempts, the newest first: their checkpoints go as newer ones come."""


@dataclass
class StepResult:
    """What a subclass made of one step: gradients lie in the model, figures here."""

    loss: float
    rows: int
    metrics: Metrics
    ids: Sequence[str] = ()
    sample: str = ""


class _StepEnd(TrainerCallback):  # type: ignore[misc]
    """Tells the loop that Transformers has finished an optimiser step."""

    def __init__(self, loop: "StepLoop") -> None:
        self._loop = loop

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._loop.finish_step(control)


class StepLoop:
    """Steps, guards, checkpoints and metrics around a subclass's `learn`."""

    accelerator: Any
    args: Any
    model: Any
    model_wrapped: Any
    optimizer: Any
    state: Any
    train_dataset: Any
    processing_class: Any

    def __init__(self, *args: Any, context: LoopContext, **kwargs: Any) -> None:
        self.context = context
        self.window = GuardWindow(context.arm.training.guard)
        self.counters = {"non_finite_steps": 0, "non_finite_in_row": 0, "skipped_steps": 0}
        self.best: dict[str, float] | None = None
        self.warnings: dict[str, int] = {}
        self._result: StepResult | None = None
        self._applied = False
        self._staging = context.directory
        self._started = time.monotonic()
        super().__init__(*args, **kwargs)
        self.add_callback(_StepEnd(self))  # type: ignore[attr-defined]
        context.sampler.rank, context.sampler.world = self.accelerator.process_index, self.accelerator.num_processes

    # -- what a subclass does

    @abstractmethod
    def learn(self, model: nn.Module, rows: list[Any]) -> StepResult:
        """Accumulates the gradients of one optimiser step over this process's rows."""

    def after_update(self) -> Metrics:
        """Called after the optimiser changed the weights; returns metrics to add."""
        return {}

    def extra_state(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Plain values and tensors that a checkpoint must keep."""
        return {}, {}

    def restore_extra(self, values: Mapping[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        """Takes up what `extra_state` gave."""

    # -- one step

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Batches of whole optimiser steps; sharding over processes is the sampler's, so nothing is repeated."""
        return DataLoader(self.train_dataset, batch_sampler=self.context.sampler, collate_fn=list)

    def training_step(self, model: nn.Module, inputs: list[Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """Gradients of one optimiser step, or none at all if the step is not to change anything."""
        self._started = time.monotonic()
        random_state = _random_state()
        model.train()
        try:
            result = self.learn(model, inputs)
        except StepInterrupted:
            _restore_random(random_state)
            model.zero_grad(set_to_none=True)
            raise
        self._result = result
        self._applied = self._judge(model, result)
        if not self._applied:
            model.zero_grad(set_to_none=True)
        # Read by accelerate when Transformers asks whether the schedule may move on.
        self.optimizer._is_overflow = not self._applied
        return torch.tensor(result.loss if self._applied else 0.0, device=self.args.device)

    def check_stop(self) -> None:
        """Raises StepInterrupted on every process if any was asked to stop; call it before each forward pass."""
        if self.any_process(self.context.stop.raised):
            raise StepInterrupted

    def any_process(self, value: bool) -> bool:
        """Whether a flag is raised on any process."""
        if self.accelerator.num_processes == 1:
            return value
        flag = torch.tensor(float(value), device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, reduction="sum") > 0)

    def _judge(self, model: nn.Module, result: StepResult) -> bool:
        """Whether the optimiser may use the gradients: finite on every process, and of at least one row."""
        if result.rows == 0:
            self.counters["skipped_steps"] += 1
            return False
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        norm = float(torch.nn.utils.get_total_norm(gradients)) if gradients else 0.0
        result.metrics["grad_norm"] = norm
        if not self.any_process(not (math.isfinite(norm) and math.isfinite(result.loss))):
            self.counters["non_finite_in_row"] = 0
            return True
        self.counters["non_finite_steps"] += 1
        self.counters["non_finite_in_row"] += 1
        self.context.log(
            f"step {self.state.global_step + 1} changes nothing: loss {result.loss}, gradient norm {norm}; "
            f"examples {', '.join(result.ids)}"
        )
        if self.counters["non_finite_in_row"] >= self.context.arm.training.guard.max_non_finite:
            raise StageError(
                "NonFinite",
                f"{self.counters['non_finite_in_row']} steps in a row had a non-finite loss or gradient, the last at "
                f"examples {', '.join(result.ids)}; lower training.learningRate or set training.precision: float32",
            )
        return False

    def finish_step(self, control: Any) -> None:
        """Metrics, guards, probes and checkpoints after each step; called by Transformers' loop."""
        result = self._result
        assert result is not None, "a step ends after it was run"
        if self._applied:
            result.metrics |= self.after_update()
        step, total = self.state.global_step, len(self.context.sampler)
        metrics = self._step_metrics(result)
        self._record(step, total, metrics)
        self._guard(metrics, result.sample)
        every = self.context.probe_every
        if self.context.probe and every and (step % every == 0 or step == total):
            self._run_probe(step)
        if step % self.context.arm.training.checkpoint_every_steps == 0 or step == total:
            control.should_save = True

    def _step_metrics(self, result: StepResult) -> Metrics:
        counted = {name: float(self.counters[name]) for name in ("non_finite_steps", "skipped_steps")}
        metrics = {
            "loss": result.loss,
            "rows": float(result.rows),
            "learning_rate": self._get_learning_rate(),  # type: ignore[attr-defined]
            "seconds": time.monotonic() - self._started,
            "memory_gib": peak_memory_gib(),
            **result.metrics,
            **counted,
        }
        return {name: value for name, value in metrics.items() if math.isfinite(value)}

    def _record(self, step: int, total: int, metrics: Metrics) -> None:
        if not self.accelerator.is_main_process:
            return
        line = json.dumps({"step": step, **{name: float(f"{value:.6g}") for name, value in metrics.items()}})
        with (self.context.directory / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        self.context.progress.update(step, total, metrics)

    def _guard(self, metrics: Metrics, sample: str) -> None:
        broken = self.window.add(metrics)
        for sentence in broken:
            name = sentence.split()[0]
            if name not in self.warnings:
                self.context.log(f"step {self.state.global_step}: {sentence}; text: {sample[:200]!r}")
            self.warnings[name] = self.warnings.get(name, 0) + 1
        if broken and self.context.arm.training.guard.action == "Stop":
            raise StageError("PolicyCollapsed", f"{'; '.join(broken)}; a completion of this step: {sample[:500]!r}")

    def _run_probe(self, step: int) -> None:
        """Scores the probe rows; the best adapter so far is kept under `best`."""
        assert self.context.probe is not None
        score = self.context.probe(self, step)
        self.context.log(f"step {step}: probe score {score:.4f}")
        if self.best is None or score > self.best["score"]:
            self.best = {"step": step, "score": score}
            if self.accelerator.is_main_process:
                with complete_directory(self.context.directory / "best") as staging:
                    self.save_weights(staging)
                    write_json(staging / "probe.json", self.best)

    # -- checkpoints

    def save_weights(self, directory: Path) -> None:
        """The student's weights: adapters as PEFT keeps them, or the whole model."""
        selected = {"selected_adapters": ["default"]} if hasattr(self.model, "peft_config") else {}
        self.accelerator.unwrap_model(self.model).save_pretrained(directory, **selected)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Called by Transformers while it writes a checkpoint."""
        if self.accelerator.is_main_process:
            self.save_weights(Path(output_dir or self.args.output_dir))

    def _save_checkpoint(self, model: nn.Module, trial: Any = None) -> None:
        """A checkpoint of the state after the newest step, complete or absent: all processes write, the first seals."""
        target = self.context.directory / f"checkpoint-{self.state.global_step}"
        stands, main = target.exists(), self.accelerator.is_main_process
        self.accelerator.wait_for_everyone()  # all have looked before any writes
        if stands:
            return
        self._staging = staging_of(target) / "tree"
        with complete_directory(target) if main else nullcontext():
            self.accelerator.wait_for_everyone()  # the place to write to is there
            super()._save_checkpoint(model, trial)  # type: ignore[misc]
            self.accelerator.wait_for_everyone()  # all have written their part
            if main:
                self._gather_checkpoint()
        if main:
            keep_newest([self.context.directory, *self.context.earlier], self.context.arm.training.keep_checkpoints)
        self.accelerator.wait_for_everyone()  # it stands before anybody goes on

    def _gather_checkpoint(self) -> None:
        """Brings what Transformers wrote to its place, and what it does not know of beside it."""
        from safetensors.torch import save_file

        staging = self._staging.parent
        written = self._staging / f"checkpoint-{self.state.global_step}"
        for path in written.iterdir():
            path.rename(staging / path.name)
        written.rmdir()
        self._staging.rmdir()
        values, tensors = self.extra_state()
        write_json(staging / STATE, {**self._own_state(), **values})
        save_file({name: value.contiguous() for name, value in tensors.items()}, staging / "unisd_tensors.safetensors")

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._staging)

    def _own_state(self) -> dict[str, Any]:
        return {
            "counters": self.counters,
            "guard": self.window.state(),
            "best": self.best,
            "warnings": self.warnings,
            "threads": torch.get_num_threads(),
        }

    def restore(self, checkpoint: Path) -> None:
        """Takes up everything of a checkpoint that Transformers does not know of; call it before `train`."""
        from safetensors.torch import load_file

        state = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
        self.counters, self.best, self.warnings = state["counters"], state["best"], state["warnings"]
        self.window.restore(state["guard"])
        if state["threads"] != torch.get_num_threads():
            self.context.log(
                f"resuming with {torch.get_num_threads()} threads what {state['threads']} began: sums may differ in "
                "their last bits"
            )
        self.restore_extra(state, load_file(checkpoint / "unisd_tensors.safetensors"))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Called by Transformers; adapters are read as they were written, in float32."""
        from safetensors.torch import load_file

        target = self.accelerator.unwrap_model(model or self.model)
        if hasattr(target, "peft_config"):
            from peft import set_peft_model_state_dict

            weights = load_file(Path(resume_from_checkpoint) / "adapter_model.safetensors")
            set_peft_model_state_dict(target, weights, adapter_name="default")
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc]

    def run_to_end(self, checkpoint: Path | None) -> None:
        """Trains from the beginning or from a checkpoint; on a stop request saves and says so.

        Raises:
            StageError: Interrupted, NonFinite, PolicyCollapsed or StorageFull.
        """
        if checkpoint is not None:
            self.restore(checkpoint)
        try:
            self.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)  # type: ignore[attr-defined]
        except StepInterrupted:
            if self.state.global_step > 0:
                self._save_checkpoint(self.model_wrapped)
            raise StageError(
                "Interrupted", f"stopped after step {self.state.global_step}; the next run goes on from there"
            ) from None


def _random_state() -> tuple[Any, Any, torch.Tensor]:
    return random.getstate(), np.random.get_state(), torch.get_rng_state()


def _restore_random(state: tuple[Any, Any, torch.Tensor]) -> None:
    random.setstate(state[0])
    np.random.set_state(state[1])
    torch.set_rng_state(state[2])
