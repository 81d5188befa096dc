"""How long a policy takes from a trainer to a vLLM server: an adapter of a real shape, through the policy agent.

    UNISD_VLLM=/path/to/vllm python -m bench.push [--shape 7b] [--rank 64] [--pushes 5]

Starts vLLM with random weights and an agent before it, as a run on one machine does. A push is everything between the
adapter on the trainer's device and the server's word that it holds it.
"""

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen2Config

from bench.step import SHAPES, setup
from unisd.config.run import RunSpec
from unisd.config.serving import SERVER_ENVIRONMENT, serve_arguments
from unisd.local.rollout import Plan, carry_on
from unisd.local.servers import vllm_program
from unisd.rollouts.adapter import policy_body
from unisd.rollouts.types import Completion, Sampling
from unisd.rollouts.vllm_engine import ClientSettings, Policy, VllmEngine

KEY = "bench"
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
REQUESTS, TOKENS = 16, 64


class Engine(Protocol):
    """What is measured of a client of rollout servers."""

    push_seconds: list[float]

    def publish(self, policy: Policy) -> None: ...
    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> Iterator[Completion]: ...


@dataclass(frozen=True)
class Push:
    """Seconds of one push, and of what follows it."""

    body: float
    """From the device to one body of bytes."""
    sent: float
    """From there to the server's acknowledgement."""
    first: float
    """The first token under the new version."""
    generated: float
    """Several completions at once."""


def config_of(shape: str) -> Qwen2Config:
    """The model's configuration; no weights."""
    return Qwen2Config(**SHAPES[shape].config, max_position_embeddings=4096, eos_token_id=1, pad_token_id=2)


def adapter(shape: str, rank: int, device: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """A trained adapter's tensors in float32, and its configuration; random, nothing of it zero."""
    with torch.device("meta"):
        base = AutoModelForCausalLM.from_config(config_of(shape))
        lora = LoraConfig(r=rank, lora_alpha=2 * rank, task_type="CAUSAL_LM", target_modules=PROJECTIONS)
        model = get_peft_model(base, lora)
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    tensors = {name: 0.01 * torch.randn(value.shape, device=device) for name, value in state.items()}
    return tensors, model.peft_config["default"].to_dict()


def measure(engine: Engine, tensors: dict[str, torch.Tensor], config: dict[str, Any], pushes: int) -> list[Push]:
    """Pushes new versions, one after the other, and generates under each."""
    found = []
    for version in range(1, pushes + 1):
        began = time.perf_counter()
        body = policy_body(tensors, config, "bfloat16")
        made = time.perf_counter()
        engine.publish(Policy("bench-1", version, body))
        sent = time.perf_counter()
        list(engine.generate([[5, 6, 7]], Sampling(0.0, 1)))
        first = time.perf_counter()
        list(engine.generate([[5, 6, 7, index] for index in range(REQUESTS)], Sampling(1.0, TOKENS, seed=version)))
        found.append(Push(made - began, sent - made, first - sent, time.perf_counter() - first))
    return found


def table(found: Sequence[Push], size: int) -> Iterator[str]:
    """The pushes as Markdown; the first pays for what happens once."""
    yield f"adapter of {size / 2**20:.0f} MiB in bfloat16\n"
    yield f"| push | body s | sent and loaded s | whole push s | first token s | {REQUESTS} × {TOKENS} tokens s |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    rows = [(str(number), push) for number, push in enumerate(found, start=1)]
    if len(found) > 1:
        later = found[1:]
        rows.append(
            ("median of the later", Push(*(statistics.median(v) for v in zip(*map(_values, later), strict=True))))
        )
    for name, push in rows:
        cells = [push.body, push.sent, push.body + push.sent, push.first, push.generated]
        yield f"| {name} | {' | '.join(f'{cell:.3f}' for cell in cells)} |"


def _values(push: Push) -> tuple[float, ...]:
    return push.body, push.sent, push.first, push.generated


@contextmanager
def server(shape: str, rank: int, port: int) -> Iterator[str]:
    """vLLM and its agent, as a run on one machine has them; yields the agent's URL, which answers later."""
    spec = RunSpec.model_validate(
        {
            "model": {"path": "none", "lora": {"rank": rank, "alpha": 2 * rank}},
            "task": {"name": "cos_e"},
            "rollout": {"engine": "vllm", "enforceEager": True},
            "training": {"maxPromptTokens": 1024, "maxCompletionTokens": 512},
            "components": [{"name": "bench", "preset": "ema"}],
        }
    )
    with tempfile.TemporaryDirectory() as place:
        config = config_of(shape)
        config.architectures = ["Qwen2ForCausalLM"]
        config.save_pretrained(place)
        _tokenizer(config.vocab_size).save_pretrained(place)
        address = ("--host", "127.0.0.1", "--port", str(port + 1), "--load-format", "dummy")
        plan = Plan(
            (vllm_program(), *serve_arguments(spec, place, adapters=True), *address),
            {**SERVER_ENVIRONMENT, "VLLM_API_KEY": KEY},
            Path(place),
            KEY,
            port=port,
            vllm_port=port + 1,
            metrics_port=port + 2,
        )
        process = multiprocessing.get_context("forkserver").Process(target=carry_on, args=(plan,))
        process.start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.join()


def _tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """A word for each token: vLLM writes every token's text, whatever it means."""
    made = Tokenizer(models.WordLevel({f"w{token}": token for token in range(vocabulary)}, unk_token="w0"))
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="w1", pad_token="w2", unk_token="w0")


def main() -> None:
    parser = argparse.ArgumentParser(description="Time of a push to a vLLM server.")
    parser.add_argument("--shape", choices=SHAPES, default="7b")
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--pushes", type=int, default=5)
    parser.add_argument("--port", type=int, default=8011, help="of the agent; the two after it are used too")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(
        f"{setup(device)}; {os.cpu_count()} CPUs\nQwen2.5 {options.shape}, LoRA r {options.rank}, vLLM without graphs\n"
    )
    tensors, config = adapter(options.shape, options.rank, device)
    began = time.perf_counter()
    with (
        server(options.shape, options.rank, options.port) as url,
        closing(VllmEngine(lambda: [url], ClientSettings(KEY, frozenset([1]), patience_seconds=600))) as engine,
    ):
        list(engine.generate([[5, 6, 7]], Sampling(0.0, 1)))
        print(f"server ready after {time.perf_counter() - began:.0f} s", flush=True)
        found = measure(engine, tensors, config, options.pushes)
    print("\n".join(table(found, 2 * sum(value.numel() for value in tensors.values()))))


if __name__ == "__main__":
    main()
