"""The local runner's rollout servers, with a stand-in for vLLM's program."""

import multiprocessing
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.cluster.waiting import eventually
from tests.conftest import manifest
from unisd.config.load import parse_run
from unisd.failures import StageError
from unisd.local.servers import Servers, vllm_program
from unisd.rollouts.types import Sampling
from unisd.rollouts.vllm_engine import ClientSettings, VllmEngine
from unisd.rundir import RunDir
from unisd.stages import stages

ROOT = Path(__file__).parents[2]
PROGRAM = f"""#!{sys.executable}
import os, sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
with Path(__file__).with_name("starts").open("a") as file:
    print(os.getpid(), file=file)
if Path(__file__).with_name("broken").exists():
    sys.exit("no such card")
from aiohttp import web
from tests.rollouts.fake_vllm import FakeVllm
assert "--enable-lora" in sys.argv
port = int(sys.argv[sys.argv.index("--port") + 1])
web.run_app(FakeVllm(os.environ["VLLM_API_KEY"]).app(), host="127.0.0.1", port=port, print=None)
"""


@pytest.fixture
def starts(tmp_path, monkeypatch):
    """Where the stand-in writes its process id each time that it starts."""
    program = tmp_path / "vllm"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    monkeypatch.setenv("UNISD_VLLM", str(program))
    return tmp_path / "starts"


@pytest.fixture
def run():
    components = [{"name": "raw", "preset": "raw"}, {"name": "it", "divergence": {}}, {"name": "sft", "preset": "sft"}]
    return parse_run(manifest("m", "rows", rollout={"engine": "vllm"}, components=components))


@pytest.fixture
def servers(tmp_path, starts, run):
    found = Servers(run, RunDir(tmp_path / "run"), multiprocessing.get_context("forkserver"))
    yield found
    found.close()


def stage(run, name):
    return next(stage for stage in stages(run, {}) if stage.name == name)


def pids(path, count):
    def look():
        found = [int(line) for line in path.read_text().split()]
        return found if len(found) >= count else []

    return eventually(look, within=240)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
def test_stages_share_a_server_that_comes_back_when_it_is_killed_and_goes_with_the_run(servers, run, starts):
    found = servers.environment(stage(run, "train/it-1"), None)
    assert servers.environment(stage(run, "evaluate/raw-1"), None) == found
    assert servers.environment(stage(run, "train/sft-1"), None) == {}
    settings = ClientSettings(found["UNISD_API_KEY"], frozenset({9}), patience_seconds=240.0)
    engine = VllmEngine(lambda: [f"http://{found['UNISD_ROLLOUT_SERVICE']}"], settings)
    for life in (1, 2):
        (completion,) = engine.generate([[5]], Sampling(0.7, 8))
        assert completion.ids == (5, 0, 9)
        assert servers.failure(stage(run, "train/it-1"), None) is None
        os.kill(pids(starts, life)[-1], signal.SIGKILL)
    engine.close()
    last = pids(starts, 3)[-1]
    servers.close()
    eventually(lambda: not alive(last))


@pytest.mark.slow
def test_vllm_that_ends_again_and_again_is_told_with_its_own_words(servers, run, starts):
    starts.with_name("broken").touch()
    servers.environment(stage(run, "train/it-1"), None)
    failure = eventually(lambda: servers.failure(stage(run, "train/it-1"), None), within=240)
    assert failure["reason"] == "RolloutCrash"
    assert "vLLM ended 3 times" in failure["message"]
    assert "no such card" in failure["message"]
    assert servers.failure(stage(run, "train/sft-1"), None) is None
    assert len(pids(starts, 3)) == 3


def test_each_device_has_a_server_with_a_share_of_its_memory(servers, monkeypatch):
    monkeypatch.setenv("UNISD_VLLM_MEMORY", "0.3")
    first, second = servers._plan(0), servers._plan(1)
    assert first.command[-2:] == ("--gpu-memory-utilization", "0.3")
    assert (first.folder.name, second.folder.name) == ("rollout-0", "rollout-1")
    assert second.environment["CUDA_VISIBLE_DEVICES"] == "1"
    assert first.port != second.port


def test_without_vllm_the_way_out_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    for wanted in ("", str(tmp_path / "nowhere")):
        monkeypatch.setenv("UNISD_VLLM", wanted)
        with pytest.raises(
            StageError, match=r"spec.rollout.engine.*make rollout-cpu.*UNISD_VLLM.*transformers"
        ) as told:
            vllm_program()
        assert told.value.reason == "BadInput"
