"""The policy agent in front of a server that speaks vLLM's protocol, and the client that trusts no server."""

import json
import socket
import struct
import threading
import urllib.error
import urllib.request

import pytest
import torch
from safetensors.torch import save

from tests.cluster.waiting import eventually
from tests.rollouts.fake_vllm import FakeVllm, Served
from unisd.failures import StageError
from unisd.rollouts.agent import AgentSettings, agent_app
from unisd.rollouts.types import Sampling
from unisd.rollouts.vllm_engine import ClientSettings, Policy, RolloutStopped, VllmEngine

CONFIG = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"], "auto_mapping": "x"}


def adapter(value, config=CONFIG):
    metadata = {} if config is None else {"adapter_config": json.dumps(config)}
    return save({"value": torch.tensor([value])}, metadata=metadata)


def headed(header):
    """A body of this header and no tensors."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text


class Pod:
    """A rollout pod: vLLM and its agent."""

    def __init__(self, folder, **settings):
        self.vllm = FakeVllm()
        self.server = Served(self.vllm.app)
        self.settings = AgentSettings(self.server.urls[0], "secret", folder, **settings)
        self.agent = Served(*self._apps())

    def _apps(self):
        made = []

        def outside():
            made[:] = agent_app(self.settings)
            return made[0]

        return outside, lambda: made[1]

    @property
    def url(self):
        return self.agent.urls[0]

    def restart_vllm(self):
        self.server.stop()
        self.vllm.adapters.clear()
        self.server.start()

    def stop(self):
        self.agent.stop()
        self.server.stop()


@pytest.fixture
def make_pod(tmp_path):
    pods = []

    def make(**settings):
        pods.append(Pod(tmp_path / f"adapters-{len(pods)}", **settings))
        return pods[-1]

    yield make
    for pod in pods:
        pod.stop()


@pytest.fixture
def pod(make_pod):
    return make_pod()


@pytest.fixture
def make_engine():
    engines = []

    def make(urls, patience=120.0):
        find = urls if callable(urls) else lambda: urls
        engines.append(VllmEngine(find, ClientSettings("secret", frozenset({9}), patience)))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


def ask(url, method="GET", body=None, key="secret"):
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"} if key else {}
    request = urllib.request.Request(url, data=body, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def put(pod, version, body, component="star-1", **options):
    return ask(f"{pod.url}/policies/{component}/{version}", "PUT", body, **options)


def test_a_version_is_loaded_under_its_own_name_and_the_oldest_goes(pod):
    for version in (1, 2, 3):
        status, told = put(pod, version, adapter(version))
        assert status == 200
        assert json.loads(told)["version"] == version
    assert pod.vllm.adapters == {"star-1-v2": 2, "star-1-v3": 3}
    assert json.loads(ask(f"{pod.url}/policies/star-1")[1])["versions"] == [2, 3]
    assert sorted(path.name for path in pod.settings.directory.iterdir()) == ["star-1-v2", "star-1-v3"]


def test_what_was_loaded_first_goes_whatever_its_number(pod):
    """An evaluator brings the best of earlier steps, which must not go as the oldest at once."""
    for version in (8, 9, 3):
        put(pod, version, adapter(version))
    assert pod.vllm.adapters == {"star-1-v9": 9, "star-1-v3": 3}


def test_an_agent_that_was_restarted_alone_knows_what_is_held(pod):
    for version in (8, 3):
        put(pod, version, adapter(version))
    pod.agent.stop()
    pod.agent.start()
    assert put(pod, 3, adapter(3))[0] == 200
    assert put(pod, 8, adapter(1))[0] == 409
    assert pod.vllm.requests.count("/v1/load_lora_adapter") == 2
    put(pod, 4, adapter(4))
    assert set(pod.vllm.adapters) == {"star-1-v3", "star-1-v4"}


def test_components_do_not_push_each_other_out(pod):
    for version in (1, 2):
        put(pod, version, adapter(version))
        put(pod, version, adapter(10 + version), component="star-12")
    assert set(pod.vllm.adapters) == {"star-1-v1", "star-1-v2", "star-12-v1", "star-12-v2"}


def test_only_what_vllm_needs_of_the_configuration_is_passed_on(pod):
    put(pod, 1, adapter(1))
    kept = json.loads((pod.settings.directory / "star-1-v1/adapter_config.json").read_text())
    assert kept == {name: CONFIG[name] for name in ("peft_type", "r", "lora_alpha", "target_modules")}


def test_a_version_again_is_acknowledged_and_never_used_for_other_weights(pod):
    assert put(pod, 1, adapter(1))[0] == 200
    assert put(pod, 1, adapter(1))[0] == 200
    assert pod.vllm.requests.count("/v1/load_lora_adapter") == 1
    status, told = put(pod, 1, adapter(2))
    assert (status, "never used twice" in told) == (409, True)
    assert pod.vllm.adapters == {"star-1-v1": 1}


def test_a_version_that_vllm_lost_is_loaded_again(pod):
    put(pod, 1, adapter(1))
    pod.restart_vllm()
    assert put(pod, 1, adapter(1))[0] == 200
    assert pod.vllm.adapters == {"star-1-v1": 1}


@pytest.mark.parametrize("path", ["/policies/star-1/1", "/v1/models", "/v1/completions", "/policies/star-1", "/other"])
@pytest.mark.parametrize("key", [None, "", "guess"])
def test_nothing_is_said_without_the_key(pod, path, key):
    assert ask(f"{pod.url}{path}", key=key)[0] == 401
    assert pod.vllm.requests == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/tokenize"),
        ("POST", "/v1/load_lora_adapter"),
        ("POST", "/v1/chat/completions"),
        ("GET", "/v1/models?x=1"),
        ("GET", "/v1/../tokenize"),
        ("POST", "//v1/completions"),
        ("DELETE", "/v1/models"),
    ],
)
def test_only_allowed_paths_reach_vllm(pod, method, path):
    assert ask(f"{pod.url}{path}", method)[0] in (404, 405)
    assert pod.vllm.requests == []


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "shorter than a safetensors header"),
        (b"\xff" * 8 + b"x", "header claims"),
        (b"\x05" + b"\0" * 7 + b"hello", "not JSON"),
        (adapter(1)[:-1], "bytes of tensors"),
        (adapter(1, config=None), "lack adapter_config"),
        (adapter(1, config={"r": "four"}), "no rank r"),
        (adapter(1, config={"r": True}), "no rank r"),
        (adapter(1, config=[4]), "adapter_config is no object"),
        (headed([]), "header is no object"),
        (headed({"__metadata__": []}), "lack adapter_config"),
        (headed({"__metadata__": {"adapter_config": 5}}), "lack adapter_config"),
        (headed({"__metadata__": {"adapter_config": "[" * 10**5}}), "adapter_config is not JSON"),
        (headed({"value": 5}), "where each tensor lies"),
        (headed({"value": {}}), "where each tensor lies"),
        (headed({"value": {"data_offsets": [0]}}), "where each tensor lies"),
        (headed({"a": {"data_offsets": [0, "b"]}, "c": {"data_offsets": [0, 1]}}), "where each tensor lies"),
    ],
)
def test_a_body_that_is_no_adapter_is_refused_with_the_reason(pod, body, told):
    status, answer = put(pod, 1, body)
    assert (status, told in answer) == (400, True), answer
    assert pod.vllm.adapters == {}
    assert list(pod.settings.directory.iterdir()) == []


@pytest.mark.parametrize("component", ["Star", "a%2F..%2Fb", "x" * 41, "-a"])
def test_a_component_name_is_a_label(pod, component):
    assert put(pod, 1, adapter(1), component=component)[0] in (400, 404)
    assert pod.vllm.adapters == {}


def test_an_oversized_body_is_refused_and_leaves_nothing(make_pod):
    pod = make_pod(max_policy_bytes=100)
    assert put(pod, 1, b"x" * 1000)[0] == 413
    assert list(pod.settings.directory.iterdir()) == []


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("PUT /policies/star-1/1\nAuthorization: Bearer \xff", b"401"),
        ("PUT /policies/star-1/1\nAuthorization: Bearer guess\nContent-Length: 99999999999", b"401"),
        ("PUT /policies/star-1/1\nAuthorization: Bearer secret\nContent-Length: 99999999999", b"413"),
        ("POST /v1/completions\nAuthorization: Bearer secret\nContent-Length: 99999999999", b"413"),
    ],
)
def test_what_cannot_be_taken_is_refused_before_its_body_comes(pod, head, status):
    with socket.create_connection(pod.url.removeprefix("http://").split(":"), timeout=120) as connection:
        line, *headers = head.split("\n")
        text = "\r\n".join([f"{line} HTTP/1.1", "Host: pod", *headers, "", ""])
        connection.sendall(text.encode("latin-1"))
        assert connection.recv(4096).split()[1] == status
    assert pod.vllm.requests == []


def test_a_body_that_cannot_be_unpacked_is_refused_with_the_reason(pod):
    head = {"Authorization": "Bearer secret", "Content-Encoding": "gzip"}
    request = urllib.request.Request(f"{pod.url}/policies/star-1/1", b"no gzip", head, method="PUT")
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(request, timeout=120)
    with refusal.value as answer:
        assert (answer.status, "cannot be read" in answer.read().decode()) == (400, True)


def test_probes_metrics_and_progress_need_no_key_and_tell_no_secret(pod):
    put(pod, 7, adapter(1))
    inside = pod.agent.urls[1]
    assert ask(f"{pod.url}/readyz", key=None)[0] == 200
    metrics = ask(f"{inside}/metrics", key=None)[1]
    assert 'unisd_rollout_policy_version{component="star-1"} 7.0' in metrics
    assert "vllm:requests 1" in metrics
    assert "secret" not in metrics
    assert json.loads(ask(f"{inside}/progress", key=None)[1]) == {"policyVersion": {"rollout": 7}}
    pod.server.stop()
    assert ask(f"{pod.url}/healthz", key=None)[0] == 200, "the agent lives while vLLM loads its model"
    assert ask(f"{pod.url}/readyz", key=None)[0] == 503
    pod.server.start()


# -- the client

PROMPTS = [[1], [2], [3], [4]]


def sampled(engine, prompts=PROMPTS):
    found = {c.index: c for c in engine.generate(prompts, Sampling(0.7, 8, seed=1))}
    return [found[index] for index in range(len(prompts))]


def versions_of(completions):
    """Which weights the fake used: the token after the prompt."""
    return {completion.ids[1] for completion in completions}


def versions_until_all_answer(engine, *pods):
    """The versions of all completions until each server has given some."""
    seen = set()

    def look():
        seen.update(versions_of(sampled(engine)))
        return all("/v1/completions" in pod.vllm.requests for pod in pods)

    eventually(look)
    return seen


def test_completions_come_from_the_published_version(make_engine, pod):
    engine = make_engine(pod.agent.urls[:1])
    assert versions_of(sampled(engine)) == {0}, "version 0 is the base model and needs no push"
    for version in (1, 2):
        engine.publish(Policy("star-1", version, adapter(version)))
        found = sampled(engine)
        assert versions_of(found) == {version}
        assert [completion.ids[0] for completion in found] == [1, 2, 3, 4]
        assert all(completion.finished for completion in found)
    assert len(engine.push_seconds) == 1


def test_decoding_is_held_to_a_schema_where_there_is_one(make_engine, pod):
    engine, schema = make_engine(pod.agent.urls[:1]), {"type": "object"}
    list(engine.generate([[1]], Sampling(1.0, 8)))
    list(engine.generate([[1]], Sampling(1.0, 8, schema=schema)))
    free, held = pod.vllm.forms
    assert free is None
    assert (held["type"], held["json_schema"]["schema"]) == ("json_schema", schema)


def test_a_server_that_was_restarted_is_given_the_version_again(make_engine, pod):
    engine = make_engine(pod.agent.urls[:1])
    engine.publish(Policy("star-1", 1, adapter(1)))
    pod.restart_vllm()
    assert versions_of(sampled(engine)) == {1}


def test_a_lost_server_is_made_up_for_by_the_others(make_engine, make_pod):
    one, two = make_pod(), make_pod()
    engine = make_engine([one.url, two.url])
    engine.publish(Policy("star-1", 1, adapter(1)))
    assert versions_until_all_answer(engine, one, two) == {1}
    one.server.stop()
    assert versions_of(sampled(engine)) == {1}
    one.server.start()


def test_a_server_added_later_is_used_and_brought_to_the_version(make_engine, make_pod):
    one, two = make_pod(), make_pod()
    urls = [one.url]
    engine = make_engine(lambda: urls)
    engine.publish(Policy("star-1", 3, adapter(3)))
    urls.append(two.url)
    assert versions_until_all_answer(engine, one, two) == {3}, "servers are looked for a few times a second"
    assert two.vllm.adapters == {"star-1-v3": 3}


def test_generation_waits_for_a_server_that_is_not_up_yet(make_engine, pod):
    engine = make_engine(pod.agent.urls[:1])
    pod.server.stop()
    timer = threading.Timer(1.0, pod.server.start)
    timer.start()
    assert versions_of(sampled(engine)) == {0}
    timer.join()


def test_a_version_that_is_held_is_not_sent_again(make_engine, pod):
    for _ in range(2):
        engine = make_engine(pod.agent.urls[:1])
        engine.publish(Policy("star-1", 1, adapter(1)))
        assert versions_of(sampled(engine)) == {1}
    assert pod.vllm.requests.count("/v1/load_lora_adapter") == 1
    assert (engine.push_seconds, engine.slowest) == ([], 1)
    with pytest.raises(ValueError, match="never used twice"):
        make_engine(pod.agent.urls[:1]).publish(Policy("star-1", 1, adapter(2)))


def test_an_offer_waits_for_nobody_and_the_lag_is_known(make_engine, make_pod):
    one, two = make_pod(), make_pod()
    engine = make_engine([one.url, two.url])
    engine.publish(Policy("star-1", 1, adapter(1)))
    two.server.stop()
    engine.offer(Policy("star-1", 2, adapter(2)))
    assert one.vllm.adapters == {"star-1-v1": 1, "star-1-v2": 2}
    assert engine.slowest == 1
    two.server.start()


def test_given_tokens_are_scored_under_the_policy_or_the_base(make_engine, pod):
    engine = make_engine(pod.agent.urls[:1])
    engine.publish(Policy("star-1", 5, adapter(5)))
    assert dict(engine.score([[1, 2], [3]], [[4], [6, 7]])) == {0: [-0.9], 1: [-1.1, -1.2]}
    assert dict(engine.score([[1, 2]], [[4]], base=True)) == {0: [-0.4]}


@pytest.mark.parametrize("work", ["publish", "generate"])
def test_a_client_that_is_asked_to_stop_gives_up_waiting(work):
    stop = threading.Event()
    settings = ClientSettings("secret", frozenset({9}), stopped=stop.is_set)
    engine = VllmEngine(lambda: ["http://127.0.0.1:9"], settings)
    timer = threading.Timer(0.5, stop.set)
    timer.start()
    with pytest.raises(RolloutStopped):
        sampled(engine) if work == "generate" else engine.publish(Policy("star-1", 1, adapter(1)))
    timer.join()
    engine.close()


def test_patience_ends_with_a_reason(make_engine):
    engine = make_engine(["http://127.0.0.1:9"], patience=0.5)
    with pytest.raises(StageError, match=r"http://127.0.0.1:9"):
        engine.publish(Policy("star-1", 1, adapter(1)))
    with pytest.raises(StageError, match="known: none"):
        sampled(make_engine([], patience=0.2))


def test_patience_is_not_for_those_who_queue(pod):
    """All answers take longer than the patience, one at a time; each shows that the server is there."""
    pod.vllm.slow = 0.5
    engine = VllmEngine(lambda: [pod.url], ClientSettings("secret", frozenset({9}), 3.0, per_server=1))
    assert len(sampled(engine, [[prompt] for prompt in range(2, 10)])) == 8
    engine.close()


def test_a_server_that_always_loses_what_it_acknowledged_ends_the_patience(make_engine, pod):
    pod.vllm.forgetful = True
    with pytest.raises(StageError, match="no rollout server gave an answer for 1 s"):
        sampled_after_publishing(make_engine(pod.agent.urls[:1], patience=1.0))


def sampled_after_publishing(engine):
    engine.publish(Policy("star-1", 1, adapter(1)))
    return sampled(engine)


def test_a_wrong_key_is_told_at_once(pod):
    engine = VllmEngine(lambda: [pod.url], ClientSettings("wrong", frozenset({9})))
    with pytest.raises(ValueError, match="401"):
        engine.publish(Policy("star-1", 1, adapter(1)))
    engine.close()


def test_requests_are_cancelled_when_nobody_reads_their_answers(make_engine, make_pod):
    pods = [make_pod(), make_pod()]
    for pod in pods:
        pod.vllm.slow = 600.0
    completions = make_engine([pod.url for pod in pods]).generate(PROMPTS, Sampling(0.7, 8))
    assert next(completions).index == 0, "answers are given as they come, not in order of the slowest"
    eventually(lambda: sum(pod.vllm.at_work for pod in pods) == len(PROMPTS) - 1)
    completions.close()
    eventually(lambda: not any(pod.vllm.at_work for pod in pods))
    assert sum(pod.vllm.answered for pod in pods) == 1
