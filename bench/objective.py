"""Time and peak memory of the loss, forward and backward: full logits beside tiles, at growing vocabulary and tokens.

    python bench/objective.py [--device cuda] [--full]

Prints the set-up and one line a shape. Every case runs in a process of its own, so that peaks do not mix: on a CPU the
growth of the resident set, on CUDA what the allocator held beyond the inputs. A case that does not fit says so.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass

import torch

from unisd.config.objective import Contrastive, Divergence, Features
from unisd.config.resolve import Objective
from unisd.objective import fused, naive
from unisd.objective.types import Coefficients, Head, Loss, Tokens

REPEATS = 3
OUT_OF_MEMORY = 9
FORMS = {"naive": naive.self_distillation_loss, "fused": fused.self_distillation_loss}


@dataclass(frozen=True)
class Case:
    """One measurement."""

    form: str
    device: str
    tokens: int
    vocabulary: int
    hidden: int
    alpha: float


def shapes(device: str, full: bool) -> list[tuple[int, int, int]]:
    """(tokens, vocabulary, hidden): growing vocabulary, then growing tokens."""
    if device == "cuda":  # Qwen2.5-7B: 152,064 × 3,584
        small = [(1024, 32768, 3584), (1024, 152064, 3584), (4096, 152064, 3584)]
        return [*small, (8192, 152064, 3584), (16384, 152064, 3584)] if full else small
    small = [(256, 8192, 576), (256, 49152, 576), (1024, 49152, 576)]  # SmolLM2-135M: 49,152 × 576
    return [*small, (2048, 49152, 576), (1024, 151936, 896)] if full else small


def inputs(case: Case) -> tuple[Tokens, Coefficients]:
    """Random hidden states of student and teacher over one tied output layer, in bfloat16."""
    draw = torch.Generator(case.device).manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw, device=case.device, dtype=torch.bfloat16)

    student_NH = normal(case.tokens, case.hidden).requires_grad_()
    head = Head(normal(case.vocabulary, case.hidden).mul_(3 / case.hidden**0.5))
    tokens = Tokens(
        student_NH=student_NH,
        student_head=head,
        teacher_NH=student_NH.detach() + 0.3 * normal(case.tokens, case.hidden),
        teacher_head=head,
        token_N=torch.randint(case.vocabulary, (case.tokens,), generator=draw, device=case.device),
        teacher_logp_N=-normal(case.tokens).abs().float(),
        negative_logp_N=-normal(case.tokens).abs().float(),
    )
    each_N = torch.full((case.tokens,), 1.0 / case.tokens, device=case.device)
    return tokens, Coefficients(each_N, each_N, each_N, each_N)


def learn(case: Case, tokens: Tokens, coefficients: Coefficients) -> Loss:
    """Loss and gradient with every term on."""
    objective = Objective(
        temperature=0.7, divergence=Divergence(alpha=case.alpha), contrastive=Contrastive(), features=Features()
    )
    loss = FORMS[case.form](tokens, objective, coefficients, 0.5)
    loss.value.backward()
    return loss


def peak(device: str) -> float:
    """GiB at most so far."""
    if device == "cuda":
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure(case: Case) -> dict[str, float]:
    """Median seconds of a step, and GiB beyond the inputs."""
    tokens, coefficients = inputs(case)
    if case.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    before = peak(case.device)
    learn(case, tokens, coefficients)
    memory = peak(case.device) - before
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        loss = learn(case, tokens, coefficients)
        loss.value.item()
        peak(case.device)  # waits for the device
        seconds.append(time.perf_counter() - started)
    return {"seconds": statistics.median(seconds), "memory": memory}


def in_own_process(case: Case) -> dict[str, float] | None:
    """The figures of a case, or none if it does not fit."""
    command = [sys.executable, __file__, "--case", json.dumps(asdict(case))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode in (OUT_OF_MEMORY, -9):
        return None
    if done.returncode:
        raise SystemExit(f"{case} failed:\n{done.stderr}")
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def run_case(text: str) -> None:
    """What the processes of `in_own_process` do."""
    try:
        print(json.dumps(measure(Case(**json.loads(text)))))
    except torch.cuda.OutOfMemoryError:
        raise SystemExit(OUT_OF_MEMORY) from None


def setup(device: str) -> str:
    """What the figures belong to."""
    if device == "cuda":
        where = torch.cuda.get_device_name()
    else:
        where = (
            f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, {torch.get_num_threads()} threads"
        )
    return f"{where}; torch {torch.__version__}, Python {platform.python_version()}; bfloat16, all terms on"


def table(device: str, full: bool) -> None:
    """Prints a line a shape as soon as it is measured."""
    print(setup(device))
    print("\n| alpha | tokens | vocabulary | hidden | naive s | fused s | ratio | naive GiB | fused GiB | ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for alpha in (0.0, 0.5):
        for tokens, vocabulary, hidden in shapes(device, full):
            slow, fast = (in_own_process(Case(form, device, tokens, vocabulary, hidden, alpha)) for form in FORMS)
            cells = [f"{alpha:g}", f"{tokens:,}", f"{vocabulary:,}", f"{hidden:,}"]
            for figure, digits in (("seconds", 3), ("memory", 2)):
                both = [f"{found[figure]:.{digits}f}" if found else "does not fit" for found in (slow, fast)]
                cells += [*both, f"{slow[figure] / max(fast[figure], 1e-9):.1f}" if slow and fast else "–"]
            print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory of the loss: full logits beside tiles.")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--full", action="store_true", help="larger shapes as well")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        run_case(options.case)
    elif options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("this machine has no CUDA device: leave --device out, or run it on one that has")
    else:
        table(options.device, options.full)


if __name__ == "__main__":
    main()
