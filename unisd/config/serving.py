"""Which stages generate on rollout servers, and the command line of such a server. Pure.

Read by the stages themselves, by the operator's pods and by the local runner, so that a server is the same everywhere.
"""

from unisd.config.model import ADAPTED_LAYERS
from unisd.config.resolve import Arm
from unisd.config.run import RunSpec

BASE = "base"
"""Name under which a server offers the model without adapters."""
HELD_ADAPTERS = 4
"""Adapters of each component that a server keeps in main memory."""
_FUSED_LAYERS = ("qkv_proj", "gate_up_proj")
"""What vLLM makes of some of the layers that adapters change."""
_LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


def trains_on_servers(spec: RunSpec, arm: Arm) -> bool:
    """Whether an arm's training has completions sampled by servers."""
    return spec.rollout.engine == "vllm" and arm.samples


def evaluates_on_servers(spec: RunSpec, arm: Arm) -> bool:
    """Whether servers generate an arm's answers: they hold the base and adapters, not weights that were all trained."""
    return spec.rollout.engine == "vllm" and not arm.trains_whole_model


def serve_arguments(spec: RunSpec, model: str, adapters: bool, components: int = 1) -> list[str]:
    """Arguments of `vllm` that do not depend on where it runs; `components` share the server at any time.

    Sampling is the client's word alone, so the model's own defaults are left out. The longest request is a text whose
    probabilities are asked for, and the one token that a server cannot but generate after it.
    """
    rollout, training = spec.rollout, spec.training
    return [
        *("serve", model, "--served-model-name", BASE),
        *("--dtype", training.precision),
        *("--max-model-len", str(longest_text(spec) + 1)),
        *("--tensor-parallel-size", str(rollout.tensor_parallel_size)),
        *("--generation-config", "vllm"),
        *(["--enforce-eager"] if rollout.enforce_eager else ()),
        *(_lora(spec, components) if adapters else ()),
    ]


def longest_text(spec: RunSpec) -> int:
    """Tokens of the longest prompt together with what may follow it: what servers have room for."""
    training = spec.training
    return training.max_prompt_tokens + max(training.max_completion_tokens, spec.contexts.max_generated_tokens)


def _lora(spec: RunSpec, components: int) -> list[str]:
    """Two adapters at once, so that the next version can arrive while the last is still in use.

    No more where components share a server: their requests take turns. Adapters leave the output layer as it is, and
    so do servers: with room for one there, as vLLM has for Llama, its build for CPUs ends when several completions are
    scored at once.
    """
    rank = max_lora_rank(spec.model.lora.rank)
    held = ["--max-loras", "2", "--max-cpu-loras", str(HELD_ADAPTERS * components)]
    layers = ["--lora-target-modules", *ADAPTED_LAYERS, *_FUSED_LAYERS]
    return ["--enable-lora", *held, "--max-lora-rank", str(rank), *layers]


def max_lora_rank(rank: int) -> int:
    """The smallest rank that vLLM takes and that holds adapters of the given one."""
    return next((known for known in _LORA_RANKS if known >= rank), rank)


SERVER_ENVIRONMENT = {
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
    # Preparation keeps prompts within the model's own positions; the bound of --max-model-len is the run's.
    "VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}
"""Environment of a server wherever it runs, its key (VLLM_API_KEY) left out."""
