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
from unisd.training.loop import LoopContext, StepLoop, StepResult
from unisd.training.rows import ReferenceRow


class ReferenceTrainer(StepLoop, SFTTrainer):  # type: ignore[misc]
    """Learns the reference demonstrations of each step's rows."""

    def learn(self, model: nn.Module, rows: list[dict[str, Any]]) -> StepResult:
        """Gradients of −Σ log π(y_t) / Σ tokens over the step's reference tokens."""
        started, size = time.monotonic(), self.context.arm.training.per_device_batch_size
        tokens = self.accelerator.reduce(torch.tensor(float(sum(len(row["completion"]) for row in rows))), "sum")
        loss, trained = 0.0, 0
        for start in range(0, len(rows), size):
            self.check_stop()
            inputs = self._packed(rows[start : start + size])
            with self.compute_loss_context_manager():
                part = self.compute_loss(model, inputs, num_items_in_batch=tokens)
            self.accelerator.backward(part)
            loss += float(part.detach())
            trained += inputs["input_ids"].shape[1]
        entropy = self._metrics["train"].pop("entropy")
        self._metrics["train"].clear()
        metrics = {
            "entropy": sum(entropy) / len(entropy),
            "tokens_trained": float(trained),
            "tokens_scored": 0.0,
            "seconds_learn": time.monotonic() - started,
        }
        return StepResult(loss, len(rows), metrics, ids=[row["id"] for row in rows])

    def _packed(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        packed = pack([row["prompt"] for row in rows], [row["completion"] for row in rows], self.accelerator.device)
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
    return ReferenceTrainer(
        model=model,
        args=SFTConfig(**arguments, dataset_kwargs={"skip_prepare_dataset": True}, max_length=None),
        train_dataset=table,
        processing_class=tokenizer,
        peft_config=peft_config,
        context=context,
    )
