"""The baseline sft: cross-entropy on the reference demonstrations, by TRL's `SFTTrainer`.

The mean is over the completion tokens of the whole optimiser step, over all micro-steps and processes. Called by
`unisd.train`.
"""

import time
from typing import Any

import torch
from torch import nn
from trl import SFTConfig, SFTTrainer

from unisd.forward.packed import pack
from unisd.training.context import LoopContext
from unisd.training.loop import StepLoop, StepResult
from unisd.training.rows import ReferenceRow
from unisd.training.together import most, summed


class ReferenceTrainer(StepLoop, SFTTrainer):  # type: ignore[misc]
    """Learns the reference demonstrations of each step's rows."""

    def learn(self, model: nn.Module, rows: list[dict[str, Any]]) -> StepResult:
        """Gradients of −Σ log π(y_t) / Σ tokens over the step's reference tokens."""
        started, size = time.monotonic(), self.passes_of(self.context.arm.training.per_device_batch_size)
        tokens = summed(self.accelerator, sum(len(row["completion"]) for row in rows))
        loss, trained = 0.0, 0
        turns = most(self.accelerator, -(-len(rows) // size))
        for turn in range(turns):
            self.check_stop()
            inputs = self._packed(rows[turn * size : (turn + 1) * size])
            with self.compute_loss_context_manager():
                part = self.compute_loss(model, inputs, num_items_in_batch=torch.tensor(tokens))
            self.backward(model, part, last=turn + 1 == turns)
            loss += float(part.detach()) / self.accelerator.num_processes
            trained += inputs["input_ids"].shape[1]
        entropy = self._metrics["train"].pop("entropy")
        self._metrics["train"].clear()
        metrics = {
            "entropy": sum(entropy) / len(entropy),
            "tokens_trained": summed(self.accelerator, trained),
            "tokens_scored": 0.0,
            "seconds_learn": time.monotonic() - started,
        }
        count = int(summed(self.accelerator, len(rows)))
        return StepResult(summed(self.accelerator, loss), count, metrics, ids=[row["id"] for row in rows])

    def _packed(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """A pack with its labels; without rows, one token that nothing is learnt of, so that all processes forward."""
        prompts = [row["prompt"] for row in rows] or [[self.processing_class.eos_token_id]]
        packed = pack(prompts, [row["completion"] for row in rows] or [[]], self.accelerator.device)
        ids_1L = packed.inputs["input_ids"]
        labels_1L = torch.full_like(ids_1L, -100)
        labels_1L[0, packed.predicts_N + 1] = ids_1L[0, packed.predicts_N + 1]
        return {**packed.inputs, "labels": labels_1L}


def reference_trainer(
    tokenizer: Any,
    rows: list[ReferenceRow],
    arguments: dict[str, Any],
    *,
    model: Any,
    peft_config: Any,
    context: LoopContext,
) -> ReferenceTrainer:
    """A trainer for the given rows."""
    from datasets import Dataset

    table = Dataset.from_list([{"id": row.id, "prompt": row.prompt, "completion": row.completion} for row in rows])
    trainer = ReferenceTrainer(
        model=model,
        args=SFTConfig(**arguments, dataset_kwargs={"skip_prepare_dataset": True}, max_length=None),
        train_dataset=table,
        processing_class=tokenizer,
        peft_config=peft_config,
        context=context,
    )
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:  # which TRL leaves in the precision of the base under ZeRO-3
            parameter.data = parameter.data.float()
    return trainer
