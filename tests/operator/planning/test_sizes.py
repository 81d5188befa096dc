from pathlib import Path

import pytest
from unisd_operator.planning import sizes

from tests.operator.planning.world import resource
from unisd.config.cluster import Resources

DOCS = Path(__file__).parents[3] / "docs" / "operator" / "sizing.md"


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("Qwen/Qwen2.5-7B-Instruct", 7.0),
        ("Qwen/Qwen2.5-0.5B-Instruct", 0.5),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 0.135),
        ("google/gemma-3-270m", 0.27),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", 56.0),
        ("Qwen/Qwen3-30B-A3B", 30.0),
        ("meta-llama/Llama-3.2-1B", 1.0),
        ("deepseek-ai/deepseek-coder-6.7b-instruct", 6.7),
        ("microsoft/phi-3-mini-4k-instruct", sizes.UNKNOWN_BILLIONS),
        ("gpt2", sizes.UNKNOWN_BILLIONS),
    ],
)
def test_a_model_tells_its_size(name: str, billions: float) -> None:
    assert sizes.billions(resource(model={"name": name}).spec) == billions


def test_a_path_and_a_claim_tell_it_too() -> None:
    assert sizes.billions(resource(model={"path": "models/SmolLM2-135M-Instruct.Q4_1.gguf"}).spec) == 0.135
    claim = {"claim": {"name": "models", "path": "Qwen2.5-14B"}}
    assert sizes.billions(resource(model=claim).spec) == 14.0


def test_larger_models_get_more_of_everything() -> None:
    for smaller, larger in zip(sizes.SIZES, sizes.SIZES[1:], strict=False):
        assert smaller.billions < larger.billions
        for field in ("trainer", "rollout", "stage", "shm", "shared", "arm", "arm_full", "adapter"):
            assert getattr(smaller, field) <= getattr(larger, field)
    beyond = resource(model={"name": "meta-llama/Llama-3.1-405B"})
    assert sizes.size(beyond.spec) == sizes.SIZES[-1]


def test_the_claim_grows_with_components_and_seeds() -> None:
    assert sizes.claim_size(resource().spec) == "120Gi"
    assert sizes.claim_size(resource(seeds=[1, 2, 3]).spec) == "160Gi"
    full = resource(training={"fineTuning": "full"}, rollout={"engine": "transformers"})
    assert sizes.claim_size(full.spec) == "1060Gi"


def test_adapters_take_memory_by_their_rank() -> None:
    small = sizes.adapters_mib(resource(model={"name": "a/7B", "lora": {"rank": 8}}).spec)
    large = sizes.adapters_mib(resource(model={"name": "a/7B", "lora": {"rank": 64}}).spec)
    assert (small, large) == (232, 1860)


def test_defaults_give_way_to_what_the_run_says() -> None:
    requests, gpus = {"cpu": "4", "memory": "40Gi"}, {"nvidia.com/gpu": 2}
    assert sizes.resources(None, requests, gpus) == {"requests": requests, "limits": {"nvidia.com/gpu": "2"}}
    own = sizes.resources(Resources(limits={"memory": "8Gi"}), requests, gpus)
    assert own == {"requests": {"cpu": "4"}, "limits": {"nvidia.com/gpu": "2", "memory": "8Gi"}}
    other = sizes.resources(Resources(limits={"amd.com/gpu": "1"}), requests, gpus)
    assert other == {"requests": requests, "limits": {"amd.com/gpu": "1"}}


def test_the_table_stands_in_the_docs() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for row in sizes.SIZES:
        cells = (row.trainer, row.rollout, row.stage, row.shm, row.shared, row.arm, row.arm_full)
        assert f"| {row.billions} B | {' | '.join(map(str, cells))} | {row.adapter} |" in text
