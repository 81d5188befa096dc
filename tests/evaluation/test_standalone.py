"""Any model on any tasks: from a component, a checkpoint or a server; kept by content; told in figures."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from aiohttp import web
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from examples.make_tiny_model import make_tiny_model
from tests.rollouts.fake_vllm import Served
from unisd.config.task import Source, Task
from unisd.evaluation.chat_server import ChatServer
from unisd.evaluation.standalone import Settings, evaluate_model
from unisd.evaluation.subject import LoadedSubject, ServedSubject, place_of
from unisd.failures import StageError
from unisd.files import read_json, read_jsonl

ROWS = Path(__file__).parents[2] / "examples/data/cos_e"
TASK = Task(name="cos_e", source=Source(path=str(ROWS)), max_eval_examples=4)
SHORT = Settings(max_tokens=6)


def tell_nobody(_task, _done, _total):
    pass


@pytest.fixture
def adapter(tiny_model, tmp_path):
    """An adapter that changes the model."""
    torch.manual_seed(0)
    config = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model), config).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def subject(model, adapter=None, base=None):
    return LoadedSubject(place_of(str(model), adapter, base, "float32"), 8, 4096)


class Counting:
    """A subject that counts what is asked of another."""

    def __init__(self, inner):
        self.inner, self.asked = inner, 0
        self.identity, self.fits = inner.identity, inner.fits

    def answers(self, *arguments):
        self.asked += 1
        return self.inner.answers(*arguments)

    def scores(self, *arguments):
        self.asked += 1
        return self.inner.scores(*arguments)


def test_figures_and_items_of_a_checkpoint_with_an_adapter(tiny_model, adapter, cache, tmp_path):
    settings = replace(SHORT, samples=2, temperature=1.0, passes=(1, 2))
    found = evaluate_model(subject(tiny_model, adapter), [TASK], settings, tmp_path / "out", tell_nobody)
    figures = found["tasks"]["cos_e"]
    assert figures["rows"] == 4
    assert set(figures["passAt"]) == {"1", "2"}
    assert figures["divergence"]["value"] > 0
    assert figures["goldPerplexity"]["value"] > 1
    items = read_jsonl(tmp_path / "out/items-cos_e.jsonl")
    assert len(items) == 8
    assert [item["goldNats"] for item in items[:4]] == [item["goldNats"] for item in items[4:]]
    assert [item["completion"] for item in items[:4]] != [item["completion"] for item in items[4:]]
    assert read_json(tmp_path / "out/evaluation.json")["tasks"]["cos_e"]["rows"] == 4


def test_answers_are_kept_by_content_never_by_path(tiny_model, adapter, cache, tmp_path):
    """In the research code a checkpoint that was trained anew kept the completions of the one before."""
    place = tmp_path / "model"
    shutil.copytree(tiny_model, place)

    def asked(made, settings=SHORT):
        counting = Counting(made)
        evaluate_model(counting, [TASK], settings, None, tell_nobody)
        return counting.asked

    assert asked(subject(place)) == 2
    assert asked(subject(place)) == 0
    shutil.move(place, tmp_path / "elsewhere")
    assert asked(subject(tmp_path / "elsewhere")) == 0, "the same content at another path"
    assert asked(subject(tmp_path / "elsewhere", adapter)) == 2
    assert asked(subject(tmp_path / "elsewhere"), replace(SHORT, max_tokens=5)) == 2
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "elsewhere")
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(2)
    model.save_pretrained(tmp_path / "elsewhere")
    assert asked(subject(tmp_path / "elsewhere")) == 2, "other content at the same path"


def test_an_adapter_directory_names_its_base(tiny_model, adapter, cache):
    place = place_of(str(adapter), None, None, None)
    assert place.weights.base == tiny_model
    assert place.weights.trained == adapter
    assert place.identity == place_of(str(tiny_model), adapter, None, None).identity


def test_what_is_not_there_is_told(tmp_path, tiny_model, cache):
    with pytest.raises(StageError, match="does not exist"):
        place_of(str(tmp_path / "nothing"), None, None, None)
    with pytest.raises(StageError, match=r"--adapter: .* is no directory"):
        place_of(str(tiny_model), tmp_path / "nothing", None, None)
    with pytest.raises(StageError, match="leaves room for 999999 tokens"):
        evaluate_model(subject(tiny_model), [TASK], Settings(max_tokens=999_999), None, tell_nobody)


def test_adapters_that_do_not_fit_are_told(tiny_model, adapter, tmp_path, cache):
    broken = shutil.copytree(adapter, tmp_path / "broken")
    (broken / "adapter_config.json").write_text("{}")
    with pytest.raises(StageError, match=r"--model: .*adapter_config.json names no base: give it as --base"):
        place_of(str(broken), None, None, None)
    with pytest.raises(StageError, match="--base: the base of --adapter is --model: remove it"):
        place_of(str(tiny_model), adapter, "other", None)
    other = make_tiny_model(tmp_path / "other", hidden_size=32)
    with pytest.raises(StageError, match=r"the adapters .*adapter do not fit their base: "):
        evaluate_model(subject(other, adapter), [TASK], SHORT, None, tell_nobody)
    (other / "config.json").write_text("[")
    with pytest.raises(StageError, match=r"--model: .*other has a config.json that is no JSON object"):
        place_of(str(other), None, None, None)


def test_a_component_of_a_run(make_run, carry_out):
    sft = [{"name": "sft", "preset": "sft"}, {"name": "raw", "preset": "raw"}]
    run, directory = make_run(4, eval_rows=2, components=sft, training={"maxSteps": 1})
    directory.root.mkdir()
    from unisd.config.load import plain
    from unisd.files import write_json

    write_json(directory.manifest, plain(run))
    with pytest.raises(StageError, match="no component star-1; it has sft-1, raw-1"):
        place_of(str(directory.root / "star-1"), None, None, None)
    carry_out(run, directory, "prepare")
    with pytest.raises(StageError, match=r"sft-1 of .* is not trained to its end"):
        place_of(str(directory.root / "sft-1"), None, None, None)
    carry_out(run, directory, "train/sft", "evaluate/sft")
    with pytest.raises(StageError, match=r"--base: .*sft-1 is a component of a run, which has its own: remove it"):
        place_of(str(directory.root / "sft-1"), None, "other", None)
    place = place_of(str(directory.root / "sft-1"), None, None, None)
    assert place.weights.precision == "float32"
    task = Task(name="cos_e", source=run.spec.task.source)
    found = evaluate_model(LoadedSubject(place, 8, 4096), [task], Settings(max_tokens=8), None, tell_nobody)
    stage = read_jsonl(directory.evaluate("sft-1") / "items-cos_e.jsonl")
    gold = sum(item["goldNats"] for item in stage) / sum(item["goldTokens"] for item in stage)
    assert torch.tensor(found["tasks"]["cos_e"]["goldPerplexity"]["value"]).log() == pytest.approx(gold, rel=1e-4)


class FakeChat:
    """OpenAI's chat completions: the first option always, in JSON where a schema asks for it; at first busy in two ways."""

    def __init__(self):
        self.bodies, self.keys, self.busy = [], set(), 2

    def app(self):
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._chat)
        return app

    async def _chat(self, request):
        if self.busy:
            self.busy -= 1
            if self.busy:
                raise web.HTTPServiceUnavailable
            return web.json_response({"error": "still busy"})
        body = await request.json()
        self.bodies.append(body)
        self.keys.add(request.headers.get("Authorization"))
        if body["model"] != "mine":
            raise web.HTTPNotFound(text="no such model")
        constrained = "response_format" in body
        text = json.dumps({"reasoning": "so", "answer": "A"}) if constrained else "Answer: A"
        choice = {"message": {"content": text}, "finish_reason": "stop"}
        return web.json_response({"choices": [choice], "usage": {"completion_tokens": 3}})


@pytest.fixture
def chat():
    fake = FakeChat()
    served = Served(fake.app)
    yield fake, served.urls[0]
    served.stop()


@pytest.mark.parametrize("structured", [False, True])
def test_a_running_server(chat, structured):
    fake, url = chat
    settings = replace(SHORT, structured=structured)
    served = ServedSubject(ChatServer(f"{url}/v1", "mine", "secret"))
    found = evaluate_model(served, [TASK], settings, None, tell_nobody)["tasks"]["cos_e"]
    assert found["found"]["value"] == 1.0
    assert "goldPerplexity" not in found
    assert fake.keys == {"Bearer secret"}
    assert all(body["temperature"] == 0.0 and body["max_tokens"] == 6 for body in fake.bodies)
    schemas = [body["response_format"]["json_schema"]["schema"] for body in fake.bodies if structured]
    assert all(schema["properties"]["answer"]["enum"][0] == "A" for schema in schemas)
    assert len(fake.bodies) == 4


def test_a_server_without_the_model_is_told_at_once(chat):
    _, url = chat
    with pytest.raises(StageError, match="refuses model other: 404 no such model"):
        evaluate_model(ServedSubject(ChatServer(url, "other")), [TASK], SHORT, None, tell_nobody)
