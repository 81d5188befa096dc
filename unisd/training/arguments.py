"""The settings of Transformers' training loop, from one arm. One batch is one optimiser step: see `loop`."""

from pathlib import Path
from typing import Any

import torch

from unisd.config.model import ADAPTED_LAYERS
from unisd.config.resolve import Arm


def common_arguments(arm: Arm, directory: Path, total_steps: int, deepspeed: dict[str, Any] | None) -> dict[str, Any]:
    """Arguments that every trainer of TRL takes.

    Accumulation is left at 1, because a batch of the loader already holds the rows of the whole step and the
    trainer walks through them itself; saving, logging and resuming are decided by the loop, not by strategies.
    """
    training = arm.training
    return {
        "output_dir": str(directory),
        "num_train_epochs": 1,
        "per_device_train_batch_size": training.per_device_batch_size * training.gradient_accumulation_steps,
        "gradient_accumulation_steps": 1,
        "learning_rate": training.learning_rate,
        "lr_scheduler_type": training.schedule if training.schedule != "constant" else "constant_with_warmup",
        "warmup_steps": round(training.warmup_ratio * total_steps),
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_grad_norm,
        "optim": "adamw_torch",
        "seed": arm.seed,
        "gradient_checkpointing": training.gradient_checkpointing,
        "deepspeed": deepspeed,
        "ddp_find_unused_parameters": False,  # every weight that trains gets a gradient from each pass
        "bf16": training.precision == "bfloat16" and deepspeed is None,  # it would cast all weights
        "use_cpu": not torch.cuda.is_available(),
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "dataloader_pin_memory": False,
        "logging_nan_inf_filter": False,
    }


def lora_config(arm: Arm, rank: int, alpha: int) -> Any:
    """Adapters on every attention and MLP projection, or None for full fine-tuning."""
    if arm.training.fine_tuning == "full":
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
        target_modules=list(ADAPTED_LAYERS),
    )
