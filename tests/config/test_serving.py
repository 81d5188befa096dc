"""What stages ask of rollout servers, and how those are started."""

import pytest

from tests.conftest import manifest
from unisd.config.load import parse_cluster_run
from unisd.config.resolve import resolve
from unisd.config.serving import evaluates_on_servers, max_lora_rank, serve_arguments, trains_on_servers


def spec_of(**blocks):
    data = manifest("m", "rows", **{"rollout": {"engine": "vllm"}, **blocks})
    data["spec"]["task"].pop("source")
    return parse_cluster_run(data).spec


@pytest.mark.parametrize(("rank", "taken"), [(1, 1), (4, 8), (64, 64), (100, 128), (512, 512)])
def test_the_servers_rank_holds_the_adapters(rank, taken):
    assert max_lora_rank(rank) == taken


def test_a_server_takes_the_longest_request_and_one_token_more():
    arguments = serve_arguments(spec_of(training={"maxPromptTokens": 100, "maxCompletionTokens": 20}), "m", True)
    assert arguments[arguments.index("--max-model-len") + 1] == "121"
    assert arguments[arguments.index("--max-lora-rank") + 1] == "8"
    written = serve_arguments(spec_of(contexts={"maxGeneratedTokens": 300}), "m", True)
    assert written[written.index("--max-model-len") + 1] == "1801"
    assert "--enable-lora" not in serve_arguments(spec_of(), "m", False)


def test_a_server_keeps_no_room_for_an_adapter_of_the_output_layer():
    arguments = serve_arguments(spec_of(), "m", True)
    layers = arguments[arguments.index("--lora-target-modules") + 1 :]
    assert {"q_proj", "qkv_proj", "down_proj"} < set(layers)
    assert not {"lm_head", "embed_tokens"} & set(layers)


def test_a_server_compiles_the_model_unless_it_is_told_not_to():
    assert "--enforce-eager" not in serve_arguments(spec_of(), "m", True)
    eager = serve_arguments(spec_of(rollout={"engine": "vllm", "enforceEager": True}), "m", True)
    assert "--enforce-eager" in eager


@pytest.mark.parametrize(
    ("preset", "trains", "evaluates"),
    [("raw", False, True), ("sft", False, True), ("ssd", False, True), ("ema", True, True)],
)
def test_who_generates_on_servers(preset, trains, evaluates):
    spec = spec_of(components=[{"name": "it", "preset": preset}])
    (arm,) = resolve(spec)
    assert (trains_on_servers(spec, arm), evaluates_on_servers(spec, arm)) == (trains, evaluates)


def test_servers_do_not_hold_weights_that_were_all_trained():
    spec = spec_of(components=[{"name": "it", "preset": "sft"}], training={"fineTuning": "full"})
    (arm,) = resolve(spec)
    assert not evaluates_on_servers(spec, arm)


def test_a_server_has_room_for_the_adapters_of_all_components_that_share_it():
    alone, shared = (serve_arguments(spec_of(), "m", True, components) for components in (1, 12))
    assert int(shared[shared.index("--max-cpu-loras") + 1]) == 12 * int(alone[alone.index("--max-cpu-loras") + 1])
