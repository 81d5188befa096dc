"""One training in one process and in several of a machine, under ZeRO stages: the same losses, and what a step takes.

    python -m bench.ranks MODEL [--processes 2] [--stages 0 2 3] [--steps 4] [--rows 16]

MODEL is a directory or a .gguf file. Each training is carried out as a stage is, by torchrun, on a GPU a process (NCCL)
or, without any, on the CPU (gloo). All have the same rows in a step. What was measured with it: bench/results/nccl.md.
"""

import argparse
import multiprocessing
import os
import shutil
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unisd.config.load import parse_run, plain
from unisd.config.names import API_VERSION, KIND
from unisd.config.resolve import resolve
from unisd.config.run import SelfDistillRun
from unisd.execution.devices import visible_devices
from unisd.files import read_json, read_jsonl
from unisd.job import Job, stage_function
from unisd.rundir import RunDir

DATA = Path(__file__).parents[1] / "examples" / "data" / "cos_e"
KINDS: dict[str, dict[str, Any]] = {
    "SFT, LoRA": {"preset": "sft"},
    "EMA teacher, LoRA": {"preset": "ema"},
    "EMA teacher, all weights": {"preset": "ema", "fineTuning": "full"},
}


@dataclass(frozen=True)
class Case:
    """One way to carry out a training."""

    processes: int
    stage: int


@dataclass(frozen=True)
class Setting:
    """What all trainings have in common."""

    model: Path
    steps: int = 4
    rows: int = 16
    """Rows of a step, over all processes."""
    precision: str = "bfloat16"


@dataclass(frozen=True)
class Result:
    """What one training left."""

    losses: list[float]
    seconds: float
    """Median of a step, the first left out."""
    memory_gib: float
    """Peak of the first process."""


def manifest(setting: Setting, kind: str, case: Case) -> SelfDistillRun:
    """The run of one case."""
    component = {"name": "it", **KINDS[kind]}
    rows = min(4, setting.rows // case.processes)
    training = {
        "fineTuning": component.pop("fineTuning", "lora"),
        "precision": setting.precision,
        "learningRate": 1e-4,
        "maxSteps": setting.steps,
        "perDeviceBatchSize": rows,
        "gradientAccumulationSteps": setting.rows // (rows * case.processes),
        "maxPromptTokens": 768,
        "maxCompletionTokens": 48,
        "maskTruncated": False,
    }
    spec = {
        "model": {"path": str(setting.model.absolute())},
        "task": {"name": "cos_e", "source": {"path": str(DATA)}},
        "rollout": {"engine": "transformers"},
        "training": training,
        "trainer": {"numProcPerNode": case.processes, "deepspeed": {"stage": case.stage}},
        "components": [component],
    }
    return parse_run({"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "ranks"}, "spec": spec})


def measure(setting: Setting, kind: str, cases: Sequence[Case], base: Path) -> list[Result]:
    """Carries out the trainings of one kind, each in a process of its own that may use a GPU a rank."""
    prepared = RunDir(base / "prepared")
    stage_function("prepare")(Job(manifest(setting, kind, cases[0]), prepared))
    found, devices = [], visible_devices()
    for number, case in enumerate(cases):
        root = base / str(number)
        shutil.copytree(prepared.root, root, symlinks=True)
        if devices:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(devices[: case.processes])
        told = plain(manifest(setting, kind, case))
        process = multiprocessing.get_context("spawn").Process(target=_train, args=(told, root))
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(f"{kind}, {case}: exit code {process.exitcode}")
        found.append(_result(RunDir(root).train("it-1")))
    return found


def _train(told: dict[str, Any], root: Path) -> None:
    run = parse_run(told)
    stage_function("train")(Job(run, RunDir(root), resolve(run.spec)[0]))


def _result(folder: Path) -> Result:
    steps = read_jsonl(folder / "metrics.jsonl")
    seconds = statistics.median(row["seconds"] for row in steps[1:] or steps)
    return Result([row["loss"] for row in steps], seconds, read_json(folder / "result.json")["peakMemoryGiB"])


def table(cases: Sequence[Case], found: Sequence[Result]) -> Iterator[str]:
    """The trainings as Markdown."""
    steps = range(1, len(found[0].losses) + 1)
    yield f"| processes | ZeRO | {' | '.join(f'loss {step}' for step in steps)} | step s | peak GiB |"
    yield f"| ---: | ---: |{' ---: |' * (len(steps) + 2)}"
    for case, result in zip(cases, found, strict=True):
        losses = " | ".join(f"{loss:.4f}" for loss in result.losses)
        stage = "–" if case.processes == 1 else str(case.stage)
        yield f"| {case.processes} | {stage} | {losses} | {result.seconds:.2f} | {result.memory_gib:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="One training in one process and in several.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--stages", type=int, nargs="+", default=[0, 2, 3])
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rows", type=int, default=16, help="rows of a step, over all processes")
    options = parser.parse_args()
    setting = Setting(options.model, options.steps, options.rows)
    cases = [Case(1, 0), *(Case(options.processes, stage) for stage in options.stages)]
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as base:
            found = measure(setting, kind, cases, Path(base))
        print(f"\n## {kind}\n\n" + "\n".join(table(cases, found)), flush=True)


if __name__ == "__main__":
    main()
