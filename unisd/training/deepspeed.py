"""DeepSpeed for several processes: its configuration, its step, and moments that do not depend on how they are sharded.

Called by `unisd.train`, `loop` and `saving`. One process, and ZeRO stage 0, which shards nothing, train without it.
Weights stay in the precision they were loaded in, as they do without DeepSpeed: its own mixed precision is off, forward
passes are autocast.
"""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from unisd.config.training import Training
from unisd.sharded import is_sharded, whole

Groups = Sequence[Sequence[nn.Parameter]]
_MOMENTS = ("exp_avg", "exp_avg_sq")


def deepspeed_config(stage: int, processes: int, training: Training) -> dict[str, Any] | None:
    """DeepSpeed's configuration, or None where training goes without it."""
    if stage == 0 or processes == 1:
        return None
    return {
        "train_micro_batch_size_per_gpu": "auto",  # for its own counting only
        "gradient_accumulation_steps": 1,
        "gradient_clipping": training.max_grad_norm,
        "zero_optimization": {
            "stage": stage,
            "reduce_bucket_size": 50_000_000,  # elements, of a buffer in float32
            # Small weights would be kept whole, and gathered together after a step: of one precision only.
            "stage3_param_persistence_threshold": 0,
        },
        # No module is named whose weights or gradients might travel in a narrower type than they have.
        "torch_autocast": {
            "enabled": training.precision == "bfloat16",
            "dtype": "bfloat16",
            "lower_precision_safe_modules": [],
        },
    }


def run_on_cpu() -> None:
    """Has DeepSpeed run on a CPU, and compile nothing for it; call it before anything of DeepSpeed.

    At its first start it would compile an all-reduce through shared memory (a minute, a compiler); gloo has one.
    """
    os.environ.pop("ACCELERATE_USE_CPU", None)  # with it accelerate knows of no DeepSpeed
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    import deepspeed.ops

    deepspeed.ops.__compatible_ops__ = {}


@contextmanager
def unsharded(engine: Any) -> Iterator[nn.Module]:
    """The model whole on every process, to be forwarded as often as each likes: no pass speaks to other processes."""
    shards, module = getattr(engine.optimizer, "parameter_offload", None), engine.module
    if shards is None:  # weights are sharded from stage 3 on
        yield module
        return
    with whole(module.parameters()):
        for parameter in module.parameters():
            parameter.ds_active_sub_modules.clear()
        shards.destroy()  # removes its hooks, no more
        try:
            yield module
        finally:
            shards.forward_hooks, shards.backward_hooks = [], []
            shards.setup_zero_stage3_hooks()


def backward(engine: Any, loss: torch.Tensor, *, last: bool) -> None:
    """Adds the gradients of one micro-step; those of the last one are reduced over all processes."""
    engine.set_gradient_accumulation_boundary(last)
    engine.backward(loss)


def step_if_finite(engine: Any, usable: bool) -> float:
    """Lets the optimiser step, unless a gradient is not finite or `usable` is false; either way gradients are gone.

    Returns:
        The gradients' norm before clipping; infinity, on all processes alike, if nothing was changed.
    """
    if not usable:
        _spoil_gradients(engine)
    engine.step()
    return math.inf if engine.optimizer.overflow else float(engine.get_global_grad_norm())


def _spoil_gradients(engine: Any) -> None:
    """Makes one gradient NaN: DeepSpeed itself drops such a step, and cleans up after it."""
    from deepspeed.utils import safe_set_full_grad, safe_set_local_grad

    parameter = next(parameter for parameter in engine.module.parameters() if parameter.requires_grad)
    if is_sharded(parameter):
        safe_set_local_grad(parameter, torch.full_like(parameter.ds_tensor, math.nan))
    else:
        safe_set_full_grad(parameter, torch.full_like(parameter, math.nan))


def gathered_moments(engine: Any, groups: Groups) -> dict[str, Any]:
    """The state of AdamW as the optimiser of one process keeps it; a collective call.

    Args:
        engine: DeepSpeed's, around model and optimiser.
        groups: the parameters, grouped as they were given to the optimiser.
    """
    from deepspeed.utils import safe_get_full_optimizer_state

    counters = [kept["step"] for kept in engine.optimizer.optimizer.state.values()]  # none before the first step
    state = {  # each counts its own steps, in place: one counter for all would be advanced by every one
        index: {"step": counters[0].clone()} | {m: safe_get_full_optimizer_state(parameter, m).cpu() for m in _MOMENTS}
        for index, parameter in (_numbered(groups) if counters else ())
    }
    numbers = iter(range(sum(len(group) for group in groups)))
    settings = [
        {**group, "params": [next(numbers) for _ in members]}
        for group, members in zip(engine.optimizer.param_groups, groups, strict=True)
    ]
    return {"state": state, "param_groups": settings}


def restore_moments(engine: Any, groups: Groups, saved: dict[str, Any]) -> None:
    """Takes up what `gathered_moments`, or the optimiser of one process, gave."""
    sharded, inner = engine.optimizer, engine.optimizer.optimizer
    for group, told in zip(sharded.param_groups, saved["param_groups"], strict=True):
        group.update({name: value for name, value in told.items() if name != "params"})
    if not saved["state"]:
        return
    weights = hasattr(sharded, "fp32_partitioned_groups_flat")
    for flat in sharded.fp32_partitioned_groups_flat if weights else sharded.single_partition_of_fp32_groups:
        inner.state[flat] = {"step": saved["state"][0]["step"].clone()} | {m: torch.zeros_like(flat) for m in _MOMENTS}
    if not weights:
        sharded._lazy_init_hp_params_optimizer_state()
    for index, parameter in _numbered(groups):
        for key in _MOMENTS:
            _set_moment(parameter, saved["state"][index][key].to(engine.device), key)


def _numbered(groups: Groups) -> Iterator[tuple[int, nn.Parameter]]:
    return enumerate(parameter for group in groups for parameter in group)


def _set_moment(parameter: Any, value: torch.Tensor, key: str) -> None:
    from deepspeed.utils import safe_set_full_optimizer_state, safe_set_local_optimizer_state

    if not is_sharded(parameter):
        safe_set_full_optimizer_state(parameter, value, key)
        return
    size = parameter.ds_tensor.numel()  # of every process's share, the last one's filled up
    processes, rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
    filled = nn.functional.pad(value.flatten(), (0, size * processes - value.numel()))
    safe_set_local_optimizer_state(parameter, filled.narrow(0, rank * size, size), key)
