"""Probes during training: the score of the current student on rows carved from the training split."""

from pathlib import Path
from typing import Any

from unisd.job import Job
from unisd.prepared import load_examples
from unisd.rundir import read_jsonl, write_jsonl
from unisd.training.loop import Probe


def probe_for(job: Job, tokenizer: Any) -> Probe | None:
    """A function from trainer and step to the probe's score, or None for a run without probes."""
    if job.spec.evaluation.every_steps is None:
        return None
    from unisd.evaluation.generate import completions_of
    from unisd.tasks.catalog import task_for

    arm, task = job.required_arm, task_for(job.spec.task)
    examples = load_examples(job.directory.prepared / "probe.jsonl")
    history: Path = job.directory.train(arm.name) / "probes.jsonl"

    def probe(trainer: Any, step: int) -> float:
        engine = trainer.context.rollouts.engine(trainer, job.spec.evaluation.batch_size)
        found = completions_of(engine, tokenizer, examples, arm.training.max_completion_tokens)
        grades = task.grade(examples, [completion.text for completion in found])
        score = sum(grade.correct for grade in grades) / len(grades)
        if trainer.accelerator.is_main_process:
            before = [row for row in read_jsonl(history) if row["step"] < step] if history.is_file() else []
            found_share = sum(grade.found for grade in grades) / len(grades)
            write_jsonl(history, [*before, {"step": step, "score": score, "found": found_share}])
        return score

    return probe
