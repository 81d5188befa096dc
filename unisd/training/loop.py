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
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import TrainerCallback

from unisd.failures import StageError
from unisd.files import write_json
from unisd.forward.packed import freeze_unreached
from unisd.metrics.memory import peak_memory_gib
from unisd.sealed import complete_directory
from unisd.training.context import LoopContext
from unisd.training.deepspeed import backward, step_if_finite
from unisd.training.guard import GuardWindow
from unisd.training.memory import in_words, leave_note, noted, out_of_memory, smaller
from unisd.training.saving import Saving
from unisd.training.together import most

Metrics = dict[str, float]


class StepInterrupted(Exception):  # noqa: N818 - not an error: training was asked to stop
    """The open step was dropped because training was asked to stop."""


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


class StepLoop(Saving):
    """Steps, guards, checkpoints and metrics around a subclass's `learn`."""

    optimizer: Any
    train_dataset: Any
    processing_class: Any

    def __init__(self, *args: Any, context: LoopContext, **kwargs: Any) -> None:
        self.context = context
        self.window = GuardWindow(context.arm.training.guard)
        self.counters = {"non_finite_steps": 0, "non_finite_in_row": 0, "skipped_steps": 0, "memory_halvings": 0}
        self.best: dict[str, float] | None = None
        self.warnings: dict[str, int] = {}
        self._result: StepResult | None = None
        self._applied = False
        self._staging = context.directory
        self._started = time.monotonic()
        super().__init__(*args, **kwargs)
        freeze_unreached(self.model)
        self.add_callback(_StepEnd(self))  # type: ignore[attr-defined]
        context.sampler.rank, context.sampler.world = self.accelerator.process_index, self.accelerator.num_processes

    # -- what a subclass does

    @abstractmethod
    def learn(self, model: nn.Module, rows: list[Any]) -> StepResult:
        """Accumulates the gradients of one optimiser step over this process's rows."""

    def after_update(self) -> Metrics:
        """Called after the optimiser changed the weights; returns metrics to add."""
        return {}

    # -- one step

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Batches of whole optimiser steps; sharding over processes is the sampler's, so nothing is repeated."""
        return DataLoader(self.train_dataset, batch_sampler=self.context.sampler, collate_fn=list)

    def training_step(self, model: nn.Module, inputs: list[Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """Gradients of one optimiser step, or none at all if the step is not to change anything."""
        self._started = time.monotonic()
        result = self._learn(model, inputs)
        self._result = result
        self._applied = self._judge(model, result)
        if not self._applied:
            model.zero_grad()
        # Read by accelerate when Transformers asks whether the schedule may move on.
        if self.engine is None:
            self.optimizer._is_overflow = not self._applied
        else:
            self.engine.optimizer.overflow = not self._applied
        return torch.tensor(result.loss if self._applied else 0.0, device=self.args.device)

    def _learn(self, model: nn.Module, inputs: list[Any]) -> StepResult:
        """The subclass's step; anew, in smaller passes, where memory ran out. One that is given up changes nothing."""
        random_state = _random_state()
        while True:
            model.train()
            try:
                return self.learn(model, inputs)
            except StepInterrupted:
                _restore_random(random_state)
                model.zero_grad()
                raise
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                trouble = str(error)
            # Outside of the clause, which would keep the tensors of the failed step.
            _restore_random(random_state)
            model.zero_grad()
            self._halve(trouble)

    def _halve(self, trouble: str) -> None:
        training = self.context.arm.training
        if self.passes_of(training.per_device_batch_size) == 1:
            raise StageError(
                "BadInput",
                f"memory does not suffice for one row at a time: set training.gradientCheckpointing, or lower "
                f"training.maxPromptTokens, maxCompletionTokens or model.lora.rank ({trouble.splitlines()[0]})",
            )
        self.counters["memory_halvings"] += 1
        words = f"step {self.state.global_step + 1}: {in_words(training, self.counters['memory_halvings'])}"
        if self.accelerator.num_processes > 1:  # the others wait for this one, in the middle of the step
            leave_note(self.context.directory, self.counters["memory_halvings"])
            raise StageError("NonZeroExit", f"{words}, from the next attempt on ({trouble.splitlines()[0]})")
        torch.cuda.empty_cache()
        self.context.log(words)

    def _heed_notes(self) -> None:
        """Begins with passes as small as an attempt that ran out of memory has asked for."""
        halvings = most(self.accelerator, noted([self.context.directory, *self.context.earlier]))
        if halvings > self.counters["memory_halvings"]:
            self.counters["memory_halvings"] = halvings
            self.context.log(f"an attempt before: {in_words(self.context.arm.training, halvings)}")

    def passes_of(self, size: int) -> int:
        """Rows or tokens of one pass: as configured, or fewer after memory ran out."""
        return smaller(size, self.counters["memory_halvings"])

    def compute_loss_context_manager(self) -> AbstractContextManager[Any]:
        """The precision of forward passes; accelerate leaves it to DeepSpeed, and DeepSpeed's is not used."""
        if not self.is_deepspeed_enabled:
            found: AbstractContextManager[Any] = super().compute_loss_context_manager()  # type: ignore[misc]
            return found
        narrow = self.context.arm.training.precision == "bfloat16"
        return torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=narrow)

    def backward(self, model: nn.Module, loss: torch.Tensor, *, last: bool) -> None:
        """Adds the gradients of one micro-step; processes reduce theirs with the last one."""
        if self.engine is not None:
            backward(self.engine, loss, last=last)
        elif last:
            self.accelerator.backward(loss)
        else:
            with self.accelerator.no_sync(model):
                self.accelerator.backward(loss)

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
        self._check_agreement(result.metrics)
        if result.rows == 0:
            self.counters["skipped_steps"] += 1
            return False
        norm = self._gradient_norm(model, not self.any_process(not math.isfinite(result.loss)))
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

    def _gradient_norm(self, model: nn.Module, usable: bool) -> float:
        """Of all gradients, before clipping. DeepSpeed, which alone can tell, steps here if they are usable."""
        if self.engine is not None:
            return step_if_finite(self.engine, usable)
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        return float(torch.nn.utils.get_total_norm(gradients)) if gradients else 0.0

    def _check_agreement(self, metrics: Metrics) -> None:
        """Ends a training whose completions do not come from the student that it trains."""
        difference, bound = metrics.get("logp_difference", 0.0), self.context.arm.training.guard.max_logp_difference
        if difference > bound:
            raise StageError(
                "PolicyDiverged",
                f"step {self.state.global_step + 1}: rollouts and trainer differ by {difference:.3f} nats on average "
                f"in the log-probabilities of the same tokens, more than training.guard.maxLogpDifference of {bound}. "
                "Give servers and trainer the same release and precision, and servers no quantisation",
            )

    def finish_step(self, control: Any) -> None:
        """Metrics, guards, probes and checkpoints after each step; called by Transformers' loop."""
        result = self._result
        assert result is not None, "a step ends after it was run"
        if self._applied:
            result.metrics |= self.after_update()
        standing = self.context.rollouts.after_step(self)
        if standing is not None:
            self.context.progress.policy = (standing.version, standing.slowest)
            result.metrics["policy_lag"] = float(standing.version - standing.slowest)
            result.metrics["seconds_push"] = standing.push_seconds
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
            self.best, weights = {"step": step, "score": score}, self.weights()
            if self.accelerator.is_main_process:
                with complete_directory(self.context.directory / "best") as staging:
                    self.save_weights(weights, staging)
                    write_json(staging / "probe.json", self.best)

    def run_to_end(self, checkpoint: Path | None) -> None:
        """Trains from the beginning or from a checkpoint; on a stop request saves and says so.

        Raises:
            StageError: Interrupted, NonFinite, PolicyCollapsed or StorageFull; where memory ran out, NonZeroExit of one
                of several processes, and BadInput if one row is too much.
        """
        if checkpoint is not None:
            self.restore(checkpoint)
        self._heed_notes()
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
