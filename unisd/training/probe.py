"""Probes during training: the score of the current student on rows carved from the training split.

All processes of a training answer and grade their own share of the rows.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

from unisd.files import read_jsonl, write_jsonl
from unisd.job import Job
from unisd.prepared import load_examples
from unisd.rollouts.types import Sampling
from unisd.rollouts.vllm_engine import RolloutStopped
from unisd.tasks.types import Grade
from unisd.training.context import Probe
from unisd.training.together import gather


def probe_for(job: Job, tokenizer: Any) -> Probe | None:
    """A function from trainer and step to the probe's score, or None for a run without probes."""
    if job.spec.evaluation.every_steps is None:
        return None
    from unisd.evaluation.generate import completions_of
    from unisd.tasks.catalog import task_for

    arm, task = job.required_arm, task_for(job.spec.task)
    greedy = Sampling(temperature=0.0, max_tokens=arm.training.max_completion_tokens)
    examples = load_examples(job.directory.prepared.probe)
    history: Path = job.directory.train(arm.name) / "probes.jsonl"

    def probe(trainer: Any, step: int) -> float:
        accelerator = trainer.accelerator
        mine = examples[accelerator.process_index :: accelerator.num_processes]
        grades: list[Grade] = []
        with suppress(RolloutStopped):
            engine = trainer.context.rollouts.engine(trainer, job.spec.evaluation.batch_size)
            found = completions_of(engine, tokenizer, mine, greedy)
            grades = task.grade(mine, [completion.text for completion in found])
        trainer.check_stop()
        parts = gather(accelerator, [(grade.correct, grade.found) for grade in grades])
        told = [pair for part in parts for pair in part]
        score: float = sum(correct for correct, _ in told) / len(told)
        found_share: float = sum(found for _, found in told) / len(told)
        if accelerator.is_main_process:
            before = [row for row in read_jsonl(history) if row["step"] < step] if history.is_file() else []
            write_jsonl(history, [*before, {"step": step, "score": score, "found": found_share}])
        return score

    return probe
