"""A real vLLM on the CPU behind real agents, two replicas of it: what the stand-in cannot show.

One pair of servers serves all tests of the module, since each takes a minute or more to start. Both are started by the
local runner's own code, which also starts them again after they were killed.
"""

import contextlib
import json
import multiprocessing
import os
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig

from examples.make_tiny_model import SIZES, make_tiny_model
from tests.conftest import manifest, rows
from tests.rollouts import vllm_cpu
from unisd.config.load import parse_run
from unisd.files import read_json, read_jsonl
from unisd.job import Job, stage_function
from unisd.local.servers import Servers
from unisd.models import load_tokenizer, stop_ids
from unisd.rollouts.adapter import policy_body
from unisd.rollouts.types import Sampling
from unisd.rollouts.vllm_engine import ClientSettings, Policy, VllmEngine
from unisd.rundir import RunDir
from unisd.stages import stages
from unisd.training.loop import StepLoop
from unisd.training.rollouts import adapter_state

pytestmark = [pytest.mark.slow, pytest.mark.vllm]
ENDING = frozenset({2})
PREFIX = [3 + place * 7 % 400 for place in range(600)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny Llama: vLLM would adapt its output layer too. Its heads are of the least size that vLLM takes on a CPU."""
    folder = make_tiny_model(tmp_path_factory.mktemp("model") / "tiny")
    sizes = {"hidden_size": 128, "num_attention_heads": 2, "num_key_value_heads": 1}
    tokenizer = load_tokenizer(folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        **{**SIZES, **sizes},
        initializer_range=0.2,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def run(model, tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    for name, found in (("train", rows(12)), ("validation", rows(4, first=200))):
        (data / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")
    components = [{"name": "star", "preset": "unisd_star"}, {"name": "raw", "preset": "raw"}]
    spec = {"rollout": {"engine": "vllm"}, "training": {"precision": "bfloat16", "checkpointEverySteps": 1}}
    return parse_run(manifest(model, data, components=components, **spec))


@pytest.fixture(scope="module")
def directory(run, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNISD_CACHE", str(tmp_path_factory.mktemp("cache")))
        found = RunDir(tmp_path_factory.mktemp("run"))
        carry_out(run, found, "prepare")
        yield found


def carry_out(run, directory, name):
    stage = next(stage for stage in stages(run, {}) if stage.name == name)
    stage_function(stage.kind)(Job(run, directory, stage.arm))


class Replicas:
    """Two servers of one component, as the name of its Service would lead to them."""

    def __init__(self, run, directory):
        context = multiprocessing.get_context("forkserver")
        stage = next(stage for stage in stages(run, {}) if stage.name == "train/star-1")
        self.each = [Servers(run, directory, context) for _ in range(2)]
        self.each[1]._key = self.key = self.each[0]._key
        found = [servers.environment(stage, None)["UNISD_ROLLOUT_SERVICE"] for servers in self.each]
        self.urls = [f"http://{address}" for address in found]

    def kill(self, place):
        """Kills vLLM itself; its server starts it again."""
        server = self.each[place]._running[None][0].pid
        (vllm,) = Path(f"/proc/{server}/task/{server}/children").read_text().split()
        os.killpg(int(vllm), signal.SIGKILL)


def wait_until_ready(url):
    deadline = time.monotonic() + 1800
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/readyz", timeout=10):
            return
        time.sleep(0.5)
    raise AssertionError(f"{url} did not become ready")


@pytest.fixture(scope="module")
def replicas(run, directory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNISD_VLLM", str(vllm_cpu.program()))
        found = Replicas(run, directory)
        for url in found.urls:
            wait_until_ready(url)
        yield found
        for servers in found.each:
            servers.close()


@pytest.fixture
def engine(replicas):
    found = VllmEngine(lambda: replicas.urls, ClientSettings(replicas.key, ENDING))
    yield found
    found.close()


@pytest.fixture(scope="module")
def students(model):
    """The trainer's side: the same model with two different adapters, by version."""
    found = {}
    for version in (1, 2):
        base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16)
        config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"])
        found[version] = get_peft_model(base, config).eval()
        torch.manual_seed(version)
        for name, parameter in found[version].named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
    return found


def policy(students, version, component="mine-1"):
    student = students[version]
    body = policy_body(adapter_state(student), student.peft_config["default"].to_dict(), "bfloat16")
    return Policy(component, version, body)


def logp(student, prompt, ids):
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = student(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1].float()
    return logits.log_softmax(-1).gather(1, torch.tensor(ids)[:, None])[:, 0]


def difference(student, prompt, ids, told):
    return float((logp(student, prompt, ids) - torch.tensor(told)).abs().mean())


def generated(engine, prompts, temperature=0.0):
    found = engine.generate(prompts, Sampling(temperature, 24, seed=1))
    return [completion for _, completion in sorted((completion.index, completion) for completion in found)]


def test_a_long_shared_prefix_never_yields_text_of_an_older_version(engine, students):
    """Every prompt has been seen under the version before; log-probabilities tell which weights were used."""
    prompts = [[*PREFIX, 5 + place] for place in range(6)]
    for version in (1, 2):
        engine.publish(policy(students, version))
        for completion, prompt in zip(generated(engine, prompts), prompts, strict=True):
            by = {v: difference(students[v], prompt, list(completion.ids), completion.logprobs) for v in (1, 2)}
            assert by[version] < 0.1, by
            assert by[3 - version] > 3 * by[version], by
    assert engine.slowest == 2


def test_log_probabilities_of_rollout_and_trainer_agree(engine, students):
    engine.publish(policy(students, 2))
    prompts = [PREFIX[: 40 + place] for place in range(8)]
    found = generated(engine, prompts, temperature=0.7)
    pairs = [
        (prompt, list(completion.ids), completion.logprobs) for prompt, completion in zip(prompts, found, strict=True)
    ]
    sampled = [difference(students[2], *pair) for pair in pairs]
    scored = dict(engine.score(prompts, [ids for _, ids, _ in pairs]))
    given = [difference(students[2], prompt, ids, scored[i]) for i, (prompt, ids, _) in enumerate(pairs)]
    assert max(sum(sampled), sum(given)) / len(pairs) < 0.1
    many = dict(engine.score([prompts[0]] * 32, [pairs[0][1]] * 32))
    assert all(difference(students[2], prompts[0], pairs[0][1], many[i]) < 0.1 for i in range(32))
    with students[2].disable_adapter():
        base = dict(engine.score(prompts[:1], [pairs[0][1]], base=True))
        assert difference(students[2], prompts[0], pairs[0][1], base[0]) < 0.1


def test_random_weights_write_json_where_decoding_is_held_to_it(replicas, model):
    tokenizer = load_tokenizer(model)
    engine = VllmEngine(lambda: replicas.urls, ClientSettings(replicas.key, stop_ids(tokenizer, model)))
    schema = {"type": "object", "properties": {"right": {"type": "boolean"}}, "required": ["right"]}
    held = Sampling(1.0, 200, schema={**schema, "additionalProperties": False})
    found = [completion for completion in engine.generate([PREFIX[:20]] * 4, held) if completion.finished]
    engine.close()
    assert found
    for completion in found:
        assert list(json.loads(tokenizer.decode(completion.ids, skip_special_tokens=True))) == ["right"]


@pytest.mark.parametrize(
    ("path", "key", "status"), [("/v1/models", "guess", 401), ("/v1/models", "", 401), ("/tokenize", None, 404)]
)
def test_a_wrong_key_opens_nothing_and_the_right_one_only_what_rollouts_need(replicas, engine, path, key, status):
    engine.publish(Policy("star-1", 0))
    request = urllib.request.Request(replicas.urls[0] + path)
    request.add_header("Authorization", f"Bearer {replicas.key if key is None else key}")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=30)
    with refused.value:
        assert refused.value.code == status


def test_training_and_evaluation_go_on_when_servers_are_killed(replicas, run, directory, monkeypatch):
    """The first replica is killed within step 2, the second when evaluation begins: by then the first is there again."""
    monkeypatch.setattr("unisd.rollouts.servers.addresses", lambda *_: replicas.urls)
    monkeypatch.setenv("UNISD_ROLLOUT_SERVICE", "star-policy:8000")
    monkeypatch.setenv("UNISD_API_KEY", replicas.key)
    learn = StepLoop.training_step

    def killing(self, model, inputs, num_items_in_batch=None):
        if self.state.global_step == 1:
            replicas.kill(0)
        return learn(self, model, inputs, num_items_in_batch)

    monkeypatch.setattr(StepLoop, "training_step", killing)
    carry_out(run, directory, "contexts")
    carry_out(run, directory, "train/star-1")
    steps = read_jsonl(directory.train("star-1") / "metrics.jsonl")
    assert [step["step"] for step in steps] == [1, 2, 3]
    assert all(step["logp_difference"] < 0.1 for step in steps), steps
    assert steps[1]["policy_lag"] > 0, "the replica that is away lags behind"
    replicas.kill(1)
    carry_out(run, directory, "evaluate/star-1")
    carry_out(run, directory, "evaluate/raw-1")
    items = read_jsonl(directory.evaluate("star-1") / "items-cos_e.jsonl")
    assert len(items) == 4
    assert all(item["goldTokens"] > 0 and item["retentionNats"] > 0 for item in items)
    assert read_json(directory.evaluate("raw-1") / "evaluation.json")["tasks"]["cos_e"]["rows"] == 4
