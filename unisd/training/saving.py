"""What a training leaves on disk: its weights, and checkpoints of everything that it needs to go on.

A mixin below `loop.StepLoop`, beside Transformers' trainer, which writes its own part of a checkpoint. All processes
call it together. Checkpoints of adapters are the same whatever number of processes wrote them and however their state
was sharded; full fine-tuning under DeepSpeed keeps each process's share as it is.
"""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unisd.failures import StageError
from unisd.files import write_json
from unisd.sealed import complete_directory, staging_of
from unisd.sharded import whole
from unisd.teacher.adapter import STUDENT
from unisd.training.checkpoint import keep_newest
from unisd.training.context import LoopContext
from unisd.training.deepspeed import gathered_moments, restore_moments
from unisd.training.guard import GuardWindow

STATE = "unisd_state.json"
_TENSORS = "unisd_tensors.safetensors"
Weights = dict[str, torch.Tensor]


class Saving:
    """Weights and checkpoints of a training."""

    accelerator: Any
    args: Any
    model: Any
    model_wrapped: Any
    state: Any
    lr_scheduler: Any
    is_deepspeed_enabled: bool
    context: LoopContext
    window: GuardWindow
    counters: dict[str, int]
    best: dict[str, float] | None
    warnings: dict[str, int]
    _staging: Path
    _groups: list[list[nn.Parameter]]

    @property
    def engine(self) -> Any:
        """DeepSpeed's, once training has begun under it; None without."""
        begun = self.is_deepspeed_enabled and self.model_wrapped is not self.model
        return self.model_wrapped if begun else None

    @property
    def trains_adapters(self) -> bool:
        """Whether the student is a LoRA adapter."""
        return hasattr(self.model, "peft_config")

    @property
    def _sharding(self) -> dict[str, int]:
        stage = self.args.deepspeed["zero_optimization"]["stage"] if self.is_deepspeed_enabled else 0
        return {"processes": self.accelerator.num_processes, "stage": stage}

    # -- weights

    def weights(self) -> Weights:
        """The student's weights on the first process's CPU, the adapter's alone where one is trained; {} elsewhere."""
        found: Weights = {}
        copies: dict[int, torch.Tensor] = {}  # weights that are tied stay so
        for name, value in self.accelerator.unwrap_model(self.model).state_dict(keep_vars=True).items():
            if self.trains_adapters and f".{STUDENT}." not in name:
                continue
            with whole([value]):
                if self.accelerator.is_main_process:
                    found[name] = copies.setdefault(id(value), value.detach().cpu())
        return found

    def save_weights(self, weights: Weights, directory: Path) -> None:
        """Writes `weights()`: adapters as PEFT keeps them, or the whole model. Not collective."""
        selected = {"selected_adapters": [STUDENT]} if self.trains_adapters else {}
        self.accelerator.unwrap_model(self.model).save_pretrained(directory, state_dict=weights, **selected)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Called by Transformers while it writes a checkpoint."""
        if self.engine is not None and not self.trains_adapters:
            return  # they are among what DeepSpeed writes
        weights = self.weights()
        if self.accelerator.is_main_process:
            self.save_weights(weights, Path(output_dir or self.args.output_dir))

    # -- writing checkpoints

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
            self.context.progress.checkpointed(self.state.global_step, target)
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
        save_file({name: value.contiguous() for name, value in tensors.items()}, staging / _TENSORS)

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._staging)

    def _own_state(self) -> dict[str, Any]:
        return {
            "counters": self.counters,
            "guard": self.window.state(),
            "best": self.best,
            "warnings": self.warnings,
            "threads": torch.get_num_threads(),
            "rows_per_step": self.context.sampler.rows_per_step,
            **self._sharding,
        }

    def extra_state(self) -> tuple[dict[str, Any], Weights]:
        """Plain values and tensors that a checkpoint must keep beside; for subclasses."""
        return {}, {}

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Called by Transformers; adapters' moments are written as one process would write them."""
        if self.engine is None or not self.trains_adapters:
            super()._save_optimizer_and_scheduler(output_dir)  # type: ignore[misc]
            return
        moments = gathered_moments(self.engine, self._groups)
        if self.accelerator.is_main_process:
            torch.save(moments, Path(output_dir) / "optimizer.pt")
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / "scheduler.pt")

    def create_optimizer(self, *arguments: Any) -> Any:
        """Called by Transformers. Groups without parameters are left out: DeepSpeed has none either."""
        made = super().create_optimizer(*arguments)  # type: ignore[misc]
        made.param_groups[:] = [group for group in made.param_groups if group["params"]]
        self._groups = [list(group["params"]) for group in made.param_groups]
        return made

    # -- going on from one

    def restore(self, checkpoint: Path) -> None:
        """Takes up everything of a checkpoint that Transformers does not know of; call it before `train`.

        Raises:
            StageError: BadInput, of full fine-tuning by another number of processes.
        """
        from safetensors.torch import load_file

        state = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
        self._check_sharding(state, checkpoint)
        self.counters, self.best, self.warnings = state["counters"], state["best"], state["warnings"]
        self.window.restore(state["guard"])
        if state["threads"] != torch.get_num_threads():
            self.context.log(
                f"resuming with {torch.get_num_threads()} threads what {state['threads']} began: sums may differ in "
                "their last bits"
            )
        self.restore_extra(state, load_file(checkpoint / _TENSORS))

    def restore_extra(self, values: dict[str, Any], tensors: Weights) -> None:
        """Takes up what `extra_state` gave; for subclasses."""

    def _check_sharding(self, state: dict[str, Any], checkpoint: Path) -> None:
        now = self._sharding
        if self.trains_adapters or all(state[name] == value for name, value in now.items()):
            return
        raise StageError(
            "BadInput",
            f"{checkpoint.name} of full fine-tuning was written by {state['processes']} processes with ZeRO stage "
            f"{state['stage']}, here are {now['processes']} with stage {now['stage']}, and each reads its own share: "
            "set trainer.numNodes, trainer.numProcPerNode and trainer.deepspeed.stage back, or remove the checkpoints "
            "to start anew",
        )

    def _prepare_for_training(self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: Any) -> Any:
        """Called by Transformers, which has DeepSpeed read checkpoints of its own alone."""
        prepare = super()._prepare_for_training  # type: ignore[misc]
        if not (self.is_deepspeed_enabled and self.trains_adapters and resume_from_checkpoint):
            return prepare(max_steps, train_dataloader, resume_from_checkpoint)
        self._load_from_checkpoint(resume_from_checkpoint)
        prepared = prepare(max_steps, train_dataloader, None)
        self._load_optimizer_and_scheduler(resume_from_checkpoint)  # type: ignore[attr-defined] # the schedule alone
        saved = torch.load(Path(resume_from_checkpoint) / "optimizer.pt", map_location="cpu", weights_only=True)
        restore_moments(self.engine, self._groups, saved)
        return prepared

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Called by Transformers; adapters are read as they were written, in float32."""
        from safetensors.torch import load_file

        target = self.accelerator.unwrap_model(model or self.model)
        if self.trains_adapters:
            from peft import set_peft_model_state_dict

            weights = load_file(Path(resume_from_checkpoint) / "adapter_model.safetensors")
            set_peft_model_state_dict(target, weights, adapter_name=STUDENT)
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc]
