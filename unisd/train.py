"""The training stage of one component: builds rows, model and trainer, resumes, trains, and exports the result."""

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from transformers import set_seed

from unisd.config.choices import Precision
from unisd.config.resolve import Arm
from unisd.config.serving import trains_on_servers
from unisd.contexts.build import check_written
from unisd.contexts.layout import INSTRUCTIONS
from unisd.contexts.texts import donors_of, instructions_of, negatives_of, samples_of
from unisd.failures import StageError
from unisd.files import read_json, write_json
from unisd.forward.attention import PACKED, register_packed_attention
from unisd.job import Job
from unisd.metrics.prometheus import served
from unisd.models import load_model, load_tokenizer, stop_ids
from unisd.prepared import Prepared, load_examples, load_prepared
from unisd.rollouts.servers import servers
from unisd.teacher.adapter import BaseTeacher, EmaAdapterTeacher
from unisd.teacher.full import FullTeacher
from unisd.teacher.types import Teacher
from unisd.training.arguments import common_arguments, lora_config
from unisd.training.checkpoint import drop_newer, go_on_from, newest_whole, step_of
from unisd.training.context import LoopContext
from unisd.training.deepspeed import deepspeed_config, run_on_cpu
from unisd.training.export import export
from unisd.training.loop import StepLoop
from unisd.training.probe import probe_for
from unisd.training.result import result_of
from unisd.training.rollouts import InProcess, Rollouts, Served
from unisd.training.rows import ReferenceRow, Rows, reference_rows, sample_rows
from unisd.training.sampler import StepSampler
from unisd.training.saving import STATE, Weights
from unisd.training.stop import StopFlag, stop_flag
from unisd.training.together import gather
from unisd.training.tracking import tracked

logger = logging.getLogger(__name__)


def train(job: Job) -> None:
    """Trains one component to its end, from its newest whole checkpoint if there is one.

    Raises:
        StageError: Interrupted on SIGTERM, and whatever training itself ends with.
    """
    arm = job.required_arm
    check_written(job, arm)
    directory = job.directory.train(arm.name)
    started = time.monotonic()
    torch.set_num_threads(arm.training.threads or torch.get_num_threads())
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    set_seed(arm.seed)
    attempts = [directory, *job.directory.earlier(arm.name)]
    checkpoint, faults = newest_whole(attempts)
    for fault in faults:
        logger.warning("%s; going on from the one before", fault)
    if checkpoint is not None:
        job.progress.checkpointed(step_of(checkpoint), checkpoint)
    if _rank() == 0:
        go_on_from(checkpoint, directory)
    prepared = load_prepared(job.directory.prepared)
    with stop_flag() as stop, _served(job, arm), _tracked(job), _rollouts(job, prepared.model, stop) as rollouts:
        trainer = _trainer(job, prepared, rollouts, stop, checkpoint)
        _agree(trainer, checkpoint)
        if checkpoint is not None and _rank() == 0:
            drop_newer(attempts, checkpoint)
        trainer.run_to_end(checkpoint)
        weights = trainer.weights()
    if trainer.accelerator.is_main_process:
        _finish(job, trainer, weights, prepared, time.monotonic() - started)


def _finish(job: Job, trainer: StepLoop, weights: Weights, prepared: Prepared, seconds: float) -> None:
    arm = job.required_arm
    directory = job.directory.train(arm.name)
    best = trainer.best if job.spec.evaluation.checkpoint == "best" else None
    export(trainer, directory / "best" if best else weights, directory / "adapter", job=job, prepared=prepared)
    found = result_of(trainer, best, seconds)
    for warning in found["warnings"]:
        logger.warning(warning)
    write_json(directory / "result.json", found)


@contextmanager
def _rollouts(job: Job, model: Path, stop: StopFlag) -> Iterator[Rollouts]:
    """Where completions come from."""
    arm, ending = job.required_arm, stop_ids(load_tokenizer(model), model)
    if not trains_on_servers(job.spec, arm):
        yield InProcess(ending)
        return
    with closing(servers(ending, lambda: stop.raised)) as client:
        yield Served(client, arm.name, arm.training.precision)


def _trainer(job: Job, prepared: Prepared, rollouts: Rollouts, stop: StopFlag, checkpoint: Path | None) -> StepLoop:
    arm, directory = job.required_arm, job.directory.train(job.required_arm.name)
    tokenizer = load_tokenizer(prepared.model)
    rows, per_step = _rows(job, tokenizer), _rows_per_step(arm, checkpoint)
    sampler = StepSampler(len(rows), per_step, arm.training.epochs, arm.seed, arm.training.max_steps)
    context = LoopContext(
        arm=arm,
        directory=directory,
        sampler=sampler,
        rollouts=rollouts,
        progress=job.progress,
        stop=stop,
        probe=probe_for(job, tokenizer),
        probe_every=job.spec.evaluation.every_steps,
        log=logger.warning,
        earlier=job.directory.earlier(arm.name),
    )
    deepspeed = deepspeed_config(job.spec.trainer.deepspeed.stage, _world(), arm.training)
    if deepspeed and not torch.cuda.is_available():
        run_on_cpu()
    arguments = common_arguments(arm, directory, len(sampler), deepspeed)
    lora = job.spec.model.lora
    common: dict[str, Any] = {
        "model": _student(arm, prepared.model),
        "peft_config": lora_config(arm, lora.rank, lora.alpha),
        "context": context,
    }
    if isinstance(rows, Rows):
        return _unisd_trainer(prepared, tokenizer, rows, arguments, **common)
    from unisd.baselines.sft import reference_trainer

    return reference_trainer(tokenizer, rows, arguments, **common)


def _rows(job: Job, tokenizer: Any) -> Rows | list[ReferenceRow]:
    """What the component learns on; of a supervised baseline the references, or the model's own samples."""
    arm, examples = job.required_arm, load_examples(job.directory.prepared.train)
    if arm.method == "sft":
        return reference_rows(examples, tokenizer, arm.training.max_completion_tokens)
    if arm.method == "ssd":
        return sample_rows(examples, tokenizer, samples_of(job, arm))
    return Rows(
        examples,
        arm,
        tokenizer,
        donors=donors_of(job, arm),
        instructions=instructions_of(job, arm, examples),
        negatives=negatives_of(job, arm),
    )


def _unisd_trainer(
    prepared: Prepared, tokenizer: Any, rows: Rows, arguments: dict[str, Any], *, context: LoopContext, **common: Any
) -> StepLoop:
    # The seams that are used are pinned and tested; TRL's notice that they may move is for others.
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    from trl.experimental.sdft import SDFTConfig

    from unisd.training.trainer import UniSDTrainer

    arm = context.arm
    teacher = _teacher_of(arm, prepared.model)  # a copy of the model is loaded before DeepSpeed is told of, whole
    return UniSDTrainer(
        args=SDFTConfig(
            **arguments,
            temperature=arm.objective.temperature,
            max_prompt_length=None,
            max_completion_length=arm.training.max_completion_tokens,
            num_generations=1,
            steps_per_generation=1,
            teacher_model_kind="base",
        ),
        train_dataset=rows,
        processing_class=tokenizer,
        teacher=teacher,
        stop_ids=stop_ids(tokenizer, prepared.model),
        instructions=[*INSTRUCTIONS, *prepared.values["instructions"]],
        context=context,
        **common,
    )


def _student(arm: Arm, path: Path) -> Any:
    """The model to train; all its weights in float32 if they are to move, which in bfloat16 loses small updates."""
    return _model(arm, path, "float32" if arm.training.fine_tuning == "full" else arm.training.precision)


def _model(arm: Arm, path: Path, precision: Precision) -> Any:
    register_packed_attention()
    attention = {"auto": PACKED, "sdpa": PACKED}.get(arm.training.attention, arm.training.attention)
    model = load_model(path, precision)
    model.set_attn_implementation(attention)
    return model


def _teacher_of(arm: Arm, path: Path) -> Callable[[Any], Teacher]:
    copy = _model(arm, path, arm.training.precision) if arm.training.fine_tuning == "full" else None

    def build(model: Any) -> Teacher:
        ema = arm.objective.ema
        if copy is not None:
            return FullTeacher(model, copy, ema)
        return BaseTeacher(model) if ema is None else EmaAdapterTeacher(model, ema)

    return build


def _rows_per_step(arm: Arm, checkpoint: Path | None) -> int:
    """Rows of one optimiser step; those of the checkpoint, if there is one, which others may have written."""
    if checkpoint is not None:
        return int(read_json(checkpoint / STATE)["rows_per_step"])
    return arm.training.per_device_batch_size * arm.training.gradient_accumulation_steps * _world()


def _world() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def _agree(trainer: StepLoop, checkpoint: Path | None) -> None:
    """All processes go on from the same checkpoint: what a shared file system shows may be older on one node."""
    found = sorted({part[0] for part in gather(trainer.accelerator, [str(checkpoint)])})
    if len(found) > 1:
        raise StageError("NonZeroExit", f"the nodes see different newest checkpoints, {' and '.join(found)}: run again")


def _tracked(job: Job) -> AbstractContextManager[None]:
    return tracked(job) if _rank() == 0 else nullcontext()


def _served(job: Job, arm: Arm) -> AbstractContextManager[None]:
    """Serves `/metrics` and `/progress` while training, from the first process."""
    if _rank() > 0:
        return nullcontext()
    return served(job.progress, arm.name, job.directory.stage(f"train/{arm.name}") / "endpoint.json")
