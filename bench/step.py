"""One training step through the trainer itself, at the shape of a real model: UniSD* and its parts beside plain SFT.

    python bench/step.py [--shape tiny 0.5b 7b] [--steps 7] [--checkpointing]

Weights are random and completions given: generation is not measured, everything else of a step is, the optimiser too.
Four rows a step, three auxiliary contexts and a negative one. Figures are medians over the steps after the first two;
memory is the accelerator's peak (on a CPU the process's so far). What was measured with it: bench/results/.
"""

import argparse
import gc
import json
import math
import os
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from peft import get_peft_model
from tokenizers import Tokenizer, models
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, PrinterCallback, Qwen2Config
from trl.experimental.sdft import SDFTConfig

from unisd.baselines.sft import reference_trainer
from unisd.config.resolve import Arm, resolve
from unisd.config.run import RunSpec
from unisd.forward.attention import PACKED, register_packed_attention
from unisd.metrics.memory import peak_memory_gib
from unisd.rollouts.types import Completion, RolloutEngine, Sampling
from unisd.teacher.adapter import BaseTeacher, EmaAdapterTeacher
from unisd.training.arguments import common_arguments, lora_config
from unisd.training.context import LoopContext
from unisd.training.loop import StepLoop
from unisd.training.rows import ReferenceRow, Row
from unisd.training.sampler import StepSampler
from unisd.training.trainer import UniSDTrainer

WARM_UP = 2
CONTEXTS = 3
STAR: dict[str, Any] = {"preset": "unisd_star"}
CASES: dict[str, dict[str, Any]] = {
    "SFT, packed": {"preset": "sft"},
    "UniSD*": STAR,
    "UniSD*, gate 0.75": {**STAR, "agreement": {"gate": {"quantile": 0.75}}},
    "UniSD* without agreement": {"ema": {}, "features": {"weight": 0.1}, "contrastive": {}},
    "divergence alone": {"divergence": {}},
}
PLAIN = "SFT, padded, Transformers' own"


@dataclass(frozen=True)
class Shape:
    """A model's sizes, and the lengths of one step's rows."""

    config: dict[str, Any]
    prompt: int = 373
    context: int = 597
    completions: tuple[int, ...] = (1024, 900, 702, 500)


def _sizes(hidden: int, inner: int, layers: int, heads: tuple[int, int], vocabulary: int) -> dict[str, Any]:
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    return {**dict(zip(names, (hidden, inner, layers, *heads), strict=True)), "vocab_size": vocabulary}


SHAPES = {
    "tiny": Shape(_sizes(64, 128, 2, (2, 1), 512), 12, 20, (32, 28, 22, 16)),
    "0.5b": Shape({**_sizes(896, 4864, 24, (14, 2), 151936), "tie_word_embeddings": True}),
    "7b": Shape(_sizes(3584, 18944, 28, (28, 4), 152064)),
}
"""Qwen2.5's sizes."""


class Given:
    """Rollouts that are there: hands out the shape's completions, the last as the most surprising one."""

    def __init__(self, rows: Sequence[Row], vocabulary: int) -> None:
        self._completions = {tuple(row.prompt): tuple(row.reference) for row in rows}
        self._order = list(self._completions)
        self._logp = -math.log(vocabulary)

    def engine(self, trainer: Any, batch_size: int) -> RolloutEngine:
        return self

    def after_step(self, trainer: Any) -> None:
        return None

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> Iterator[Completion]:
        for index, prompt in enumerate(map(tuple, prompts)):
            ids = self._completions[prompt]
            logp = self._logp - 0.01 * self._order.index(prompt)
            yield Completion(index, ids, (logp,) * len(ids), finished=True)


@dataclass
class Figures:
    """What one case took."""

    name: str
    seconds: float
    phases: tuple[float, float]
    """Scoring, and forward with backward."""
    tokens: tuple[int, int]
    """Scored, and trained on."""
    memory: float
    """GiB at most."""
    steps: list[float] = field(default_factory=list)


def arm_of(component: dict[str, Any], shape: Shape, *, checkpointing: bool) -> Arm:
    """The arm of one case, as a manifest would make it."""
    training = {
        "perDeviceBatchSize": len(shape.completions),
        "gradientAccumulationSteps": 1,
        "maxCompletionTokens": max(shape.completions),
        "gradientCheckpointing": checkpointing,
        "precision": "bfloat16",
        "checkpointEverySteps": 1_000_000,
        "guard": {"maxLogpDifference": 100.0},  # those of given completions are made up
    }
    spec = {
        "model": {"path": "none"},
        "task": {"name": "cos_e"},
        "rollout": {"engine": "transformers"},
        "training": training,
        "contexts": {"count": CONTEXTS},
        "components": [{"name": "case", **component}],
    }
    return resolve(RunSpec.model_validate(spec))[0]


def rows_of(shape: Shape, arm: Arm) -> list[Row]:
    """Rows of random tokens; which tokens does not change what a step costs."""
    draw = torch.Generator().manual_seed(0)

    def ids(length: int) -> list[int]:
        return torch.randint(3, shape.config["vocab_size"], (length,), generator=draw).tolist()

    objective = arm.objective
    return [
        Row(
            id=str(index),
            prompt=ids(shape.prompt),
            teacher=ids(shape.context),
            contexts=[ids(shape.context) for _ in range(CONTEXTS)] if objective.agreement else [],
            negative=ids(shape.context) if objective.contrastive else None,
            reference=ids(length),
        )
        for index, length in enumerate(shape.completions)
    ]


def model_of(shape: Shape, device: str) -> Any:
    """A model of the shape with random weights in bfloat16."""
    register_packed_attention()
    torch.backends.cuda.enable_cudnn_sdp(False)
    config = Qwen2Config(**shape.config, max_position_embeddings=32768, rope_theta=1e6, eos_token_id=1, pad_token_id=2)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()


def tokenizer_of() -> Any:
    """A tokenizer that has an end and a padding, which is all that a step asks of it."""
    words = {"<unk>": 0, "<end>": 1, "<pad>": 2}
    made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>", pad_token="<pad>", unk_token="<unk>")


def trainer_of(arm: Arm, shape: Shape, directory: Path, steps: int, device: str) -> StepLoop:
    """The trainer that a run would make for the arm."""
    rows = rows_of(shape, arm)
    sampler = StepSampler(len(rows), len(rows), steps, seed=0)
    model = model_of(shape, device)
    model.set_attn_implementation(PACKED)
    arguments = common_arguments(arm, directory, steps, deepspeed=None)
    common: dict[str, Any] = {
        "model": model,
        "peft_config": lora_config(arm, 64, 128),
        "context": LoopContext(arm, directory, sampler, Given(rows, shape.config["vocab_size"])),
    }
    if arm.method == "sft":
        table = [ReferenceRow(row.id, row.prompt, row.reference) for row in rows]
        return reference_trainer(tokenizer_of(), table, arguments, **common)
    ema = arm.objective.ema
    return UniSDTrainer(
        args=SDFTConfig(**arguments, max_prompt_length=None, num_generations=1, steps_per_generation=1),
        train_dataset=rows,
        processing_class=tokenizer_of(),
        teacher=lambda found: EmaAdapterTeacher(found, ema) if ema else BaseTeacher(found),
        stop_ids=frozenset([1]),
        instructions=[],
        **common,
    )


def measure(name: str, shape: Shape, *, steps: int, checkpointing: bool, device: str) -> Figures:
    """Median figures of one case."""
    arm = arm_of(CASES[name], shape, checkpointing=checkpointing)
    with tempfile.TemporaryDirectory() as place, _memory_of_its_own(device):
        trainer: Any = trainer_of(arm, shape, Path(place), steps, device)
        trainer.remove_callback(PrinterCallback)
        trainer._save_checkpoint = lambda *_: None  # nothing is kept
        trainer.run_to_end(None)
        rows = [json.loads(line) for line in (Path(place) / "metrics.jsonl").read_text().splitlines()][WARM_UP:]
        memory = peak_memory_gib()

    def median(metric: str) -> float:
        return statistics.median(row.get(metric, 0.0) for row in rows)

    return Figures(
        name,
        median("seconds"),
        (median("seconds_score"), median("seconds_learn")),
        (int(median("tokens_scored")), int(median("tokens_trained"))),
        memory,
        [row["seconds"] for row in rows],
    )


def measure_plain(shape: Shape, *, steps: int, checkpointing: bool, device: str) -> Figures:
    """Supervised fine-tuning as Transformers and PEFT do it by themselves: padded rows, full logits, SDPA."""
    arm = arm_of({"preset": "sft"}, shape, checkpointing=checkpointing)
    with _memory_of_its_own(device):
        model = get_peft_model(model_of(shape, device), lora_config(arm, 64, 128)).train()
        if checkpointing:
            model.enable_input_require_grads()
            model.gradient_checkpointing_enable()
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5)
        batch = {name: value.to(device) for name, value in _padded(shape, arm).items()}
        seconds = []
        for _ in range(steps):
            started = _now(device)
            with torch.autocast(device, torch.bfloat16):
                loss = model(**batch, use_cache=False).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            seconds.append(_now(device) - started)
        seconds = seconds[WARM_UP:]
        median = statistics.median(seconds)
        return Figures(PLAIN, median, (0.0, median), (0, batch["input_ids"].numel()), peak_memory_gib(), seconds)


def _padded(shape: Shape, arm: Arm) -> dict[str, torch.Tensor]:
    rows = rows_of(shape, arm)
    ids = [torch.tensor([*row.prompt, *row.reference]) for row in rows]
    labels = [torch.tensor([-100] * len(row.prompt) + row.reference) for row in rows]
    return {
        "input_ids": pad_sequence(ids, batch_first=True, padding_value=2),
        "labels": pad_sequence(labels, batch_first=True, padding_value=-100),
        "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
    }


def _now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


@contextmanager
def _memory_of_its_own(device: str) -> Iterator[None]:
    """Peaks count from here; what was held is let go at the end."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    try:
        yield
    finally:
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()


def setup(device: str) -> str:
    """What the figures belong to."""
    where = torch.cuda.get_device_name() if device == "cuda" else f"{os.cpu_count()} CPUs ({platform.machine()})"
    libraries = ", ".join(f"{name} {version(name)}" for name in ("transformers", "peft", "trl"))
    return f"{where}; torch {torch.__version__}, {libraries}, Python {platform.python_version()}"


def table(found: Sequence[Figures]) -> Iterator[str]:
    """The figures as Markdown, ratios against the first."""
    yield "| step | seconds | score s | learn s | tokens scored | trained | tokens/s | peak GiB | × of the first |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for case in found:
        cells = [
            case.name,
            f"{case.seconds:.3f}",
            *(f"{phase:.3f}" for phase in case.phases),
            *(f"{tokens:,}" for tokens in case.tokens),
            f"{sum(case.tokens) / case.seconds:,.0f}",
            f"{case.memory:.1f}",
            f"{case.seconds / found[0].seconds:.2f}",
        ]
        yield f"| {' | '.join(cells)} |"


def bench(name: str, *, steps: int, checkpointing: bool, device: str) -> list[Figures]:
    """All cases at one shape; one that does not fit is left out and told."""
    settings: dict[str, Any] = {"steps": steps, "checkpointing": checkpointing, "device": device}
    cases: dict[str, Callable[[], Figures]] = {PLAIN: lambda: measure_plain(SHAPES[name], **settings)}
    cases |= {case: lambda case=case: measure(case, SHAPES[name], **settings) for case in CASES}
    found = []
    for case, work in cases.items():
        try:
            found.append(work())
        except torch.cuda.OutOfMemoryError:
            print(f"{name}: {case} does not fit", file=sys.stderr)
    return found


def main() -> None:
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description="One training step at the shape of a real model.")
    parser.add_argument("--shape", nargs="+", choices=SHAPES, default=["0.5b", "7b"] if cuda else ["tiny"])
    parser.add_argument("--steps", type=int, default=7, help=f"steps of each case, the first {WARM_UP} not counted")
    parser.add_argument("--checkpointing", action="store_true", help="recompute activations in the backward pass")
    options = parser.parse_args()
    if options.steps <= WARM_UP:
        raise SystemExit(f"--steps must be more than the {WARM_UP} of warm-up, got {options.steps}")
    warnings.simplefilter("ignore")
    device = "cuda" if cuda else "cpu"
    print(setup(device))
    print(
        f"LoRA r 64, bfloat16, gradient checkpointing {'on' if options.checkpointing else 'off'}; {options.steps} steps"
    )
    for name in options.shape:
        print(f"\n## {name}\n", flush=True)
        found = bench(name, steps=options.steps, checkpointing=options.checkpointing, device=device)
        print("\n".join(table(found)), flush=True)
        spread = max((max(case.steps) - min(case.steps)) / case.seconds for case in found)
        print(f"\nwidest spread within a case: {100 * spread:.0f} % of its median", flush=True)


if __name__ == "__main__":
    main()
