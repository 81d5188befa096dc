"""Trained components on a hub: `unisd push` as its pod runs it, against the hub's own protocol."""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import document
from tests.fake_hub import fake_hub
from unisd.config.load import parse_run
from unisd.sealed import complete_directory
from unisd.stages import stages

TOKEN = "hf_averysecretvalue"


def manifest(**spec):
    base = {
        "model": {"name": "org/base"},
        "task": {"name": "gsm8k"},
        "rollout": {"engine": "transformers"},
        "components": [{"name": "raw", "preset": "raw"}, {"name": "star", "preset": "unisd_star"}],
        "seeds": [1, 2],
        "outputs": {"hub": {"repository": "me/exp"}},
    }
    return document({**base, **spec})


@pytest.fixture
def run(tmp_path):
    """A run's directory in which `star-1` was trained and `star-2` was not; and its manifest."""
    adapter = tmp_path / "run/components/star-1/1/train/adapter"
    with complete_directory(adapter) as staging:
        (staging / "adapter_model.safetensors").write_bytes(b"weights" * 1000)
        (staging / "adapter_config.json").write_text("{}")
        (staging / "README.md").write_text("---\nlibrary_name: peft\n---\n# Card\n")
    (adapter.parent / "result.json").write_text("{}")
    (tmp_path / "run.json").write_text(json.dumps(manifest()))
    return tmp_path


def push(run, url, token=TOKEN):
    environment = {
        **os.environ,
        "HF_ENDPOINT": url,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(run / "home"),
        "UNISD_ATTEMPT": "1",
        "UNISD_TERMINATION_LOG": str(run / "words"),
        **({"HF_TOKEN": token} if token else {}),
    }
    command = "import sys; from unisd.cli import main; main(['push', '-f', sys.argv[1], '--directory', sys.argv[2]])"
    ended = subprocess.run(
        [sys.executable, "-c", command, str(run / "run.json"), str(run / "run")],
        env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    words = run / "words"
    return ended.returncode, ended.stdout + ended.stderr + (words.read_text() if words.exists() else "")


def test_each_trained_component_goes_to_a_repository_of_its_own(run):
    with fake_hub(TOKEN) as hub:
        code, said = push(run, hub.url)
    assert code == 0, said
    assert set(hub.files) == {"me/exp-star-1"}
    assert hub.repositories["me/exp-star-1"]["visibility"] == "private"
    assert set(hub.files["me/exp-star-1"]) == {"adapter_model.safetensors", "adapter_config.json", "README.md"}
    assert hub.files["me/exp-star-1"]["adapter_model.safetensors"] == b"weights" * 1000
    assert TOKEN not in said


def test_a_finished_push_is_not_made_again(run):
    with fake_hub(TOKEN) as hub:
        assert push(run, hub.url)[0] == 0
        count = len(hub.seen)
        assert push(run, hub.url)[0] == 0
        assert len(hub.seen) == count


@pytest.mark.parametrize("token", ["hf_somebodyelse00", None])
def test_a_token_that_the_hub_refuses_is_the_users_business(run, token):
    with fake_hub(TOKEN) as hub:
        code, said = push(run, hub.url, token)
    assert code == 65
    assert "me/exp-star-1 was not pushed: the hub answers 401" in said
    assert "outputs.hub.token.secretKeyRef" in said
    assert token is None or token not in said


def test_a_hub_that_fails_is_asked_again_by_another_attempt(run):
    with fake_hub(TOKEN) as hub:
        hub.broken = True
        code, said = push(run, hub.url)
    assert code == 1
    assert "NonZeroExit" in said
    assert "the hub answers 500" in said
    code, said = push(run, "http://127.0.0.1:9")
    assert code == 1
    assert "the hub cannot be reached" in said


def test_the_stage_is_there_for_a_hub_alone():
    def kinds(**spec):
        return [stage.kind for stage in stages(parse_run(manifest(**spec)), {})]

    assert kinds()[-2:] == ["report", "push"]
    assert "push" not in kinds(outputs={})
    assert "push" not in kinds(components=[{"name": "raw", "preset": "raw"}])
