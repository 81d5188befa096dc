"""The local runner with stand-ins for the stages' work: order, skipping, failure, interruption."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.cluster.waiting import eventually
from tests.conftest import document
from unisd.files import read_json, write_json
from unisd.local.runner import Options
from unisd.rundir import RunDir

HERE = Path(__file__).parent
CHANGED = [
    {"name": "raw", "preset": "raw"},
    {"name": "a", "preset": "contrastive"},
    {"name": "b", "preset": "ema", "ema": {"decay": 0.5}},
]
ALL = ["prepare", "contexts", "evaluate/raw-1", "train/a-1", "evaluate/a-1", "train/b-1", "evaluate/b-1", "report"]


class Bench:
    """A run in a directory of its own, with stages that do as told."""

    def __init__(self, root: Path, **spec: object) -> None:
        self.root, self.directory = root, RunDir(root / "run")
        (root / "behave").mkdir()
        self.write(**spec)

    def write(self, **spec: object) -> None:
        base = {
            "model": {"name": "a/b"},
            "task": {"name": "cos_e"},
            "rollout": {"engine": "transformers"},
            "components": [*CHANGED[:2], {"name": "b", "preset": "ema"}],
        }
        (self.root / "run.yaml").write_text(yaml.safe_dump(document({**base, **spec})))

    def behave(self, stage: str, wish: str) -> None:
        (self.root / "behave" / stage.replace("/", "-")).write_text(wish)

    def start(self, parallelism: int = 1, devices: int = 0, per_device: int = 1) -> "subprocess.Popen[str]":
        command = [
            sys.executable,
            str(HERE / "work.py"),
            str(self.root / "run.yaml"),
            str(self.directory.root),
            *map(str, (parallelism, devices, per_device)),
        ]
        environment = {**os.environ, "PYTHONPATH": str(HERE)}
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)

    def run(self, *machine: int) -> int:
        (self.root / "events").unlink(missing_ok=True)
        process = self.start(*machine)
        self.told = process.communicate(timeout=240)[1]
        return process.returncode

    @property
    def events(self) -> list[list[str]]:
        path = self.root / "events"
        return [line.split() for line in path.read_text().splitlines()] if path.is_file() else []

    @property
    def ended(self) -> list[str]:
        return [event[1] for event in self.events if event[0] == "end"]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def wait_for(path: Path) -> int:
    return int(eventually(path.read_text))


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().split(") ")[1][:1]
    except FileNotFoundError:
        return False


def devices_at_once(events):
    """Of each device, the most stages that ran on it at once; and the most on all of them."""
    running, most, total = {}, {}, 0
    for kind, _, device in events:
        running[device] = running.get(device, 0) + (1 if kind == "start" else -1)
        most[device] = max(most.get(device, 0), running[device])
        total = max(total, sum(running.values()))
    return most, total


def test_all_stages_run_once_in_order(bench):
    assert bench.run() == 0
    assert sorted(bench.ended) == sorted(ALL)
    order = bench.ended
    assert order[0] == "prepare"
    assert order[-1] == "report"
    assert order.index("contexts") < order.index("train/a-1") < order.index("evaluate/a-1")


def test_finished_stages_are_skipped_and_changed_ones_run_anew(bench):
    assert bench.run() == 0
    assert bench.run() == 0
    assert bench.ended == []
    bench.write(components=CHANGED)
    left_over = bench.directory.train("b-1") / "checkpoint-9"
    kept = bench.directory.train("a-1") / "checkpoint-9"
    left_over.mkdir(parents=True)
    kept.mkdir(parents=True)
    assert bench.run() == 0
    assert bench.ended == ["train/b-1", "evaluate/b-1", "report"]
    assert not left_over.exists()
    assert kept.exists()


def test_of_a_changed_component_that_fails_nothing_older_is_left(bench):
    assert bench.run() == 0
    for name in ("a-1", "b-1"):
        write_json(bench.directory.evaluate(name) / "evaluation.json", {})
    bench.write(components=CHANGED)
    bench.behave("train/b-1", "fail")
    assert bench.run() == 1
    assert bench.directory.records("evaluate/b-1") == []
    assert not bench.directory.evaluate("b-1").exists()
    assert (bench.directory.evaluate("a-1") / "evaluation.json").exists()


def test_parallelism(bench):
    bench.behave("train/a-1", "beside train/b-1")
    bench.behave("train/b-1", "beside train/a-1")
    assert bench.run(2) == 0
    _, most = devices_at_once(bench.events)
    assert most == 2


@pytest.mark.parametrize(
    ("devices", "parallelism", "per_device", "slots", "sharing"),
    [(0, 3, 5, 3, 3), (2, 1, 1, 1, 1), (2, 4, 1, 2, 1), (2, 4, 2, 4, 2), (2, 3, 2, 3, 2), (1, 16, 12, 12, 12)],
)
def test_how_many_stages_run_at_once(devices, parallelism, per_device, slots, sharing):
    options = Options(devices, parallelism, per_device)
    assert (options.slots, options.sharing) == (slots, sharing)


def test_components_share_devices_evenly(tmp_path):
    components = [{"name": name, "preset": "ema"} for name in "abcd"]
    bench = Bench(tmp_path, components=components)
    for name in "abc":
        bench.behave(f"train/{name}-1", "beside train/d-1")
    assert bench.run(4, 2, 2) == 0
    most, _ = devices_at_once(bench.events)
    assert set(most) == {"0", "1"}
    assert max(most.values()) <= 2


@pytest.mark.parametrize(("wish", "reason", "code"), [("fail", "BadInput", 65), ("die", "Killed", -9)])
def test_a_failed_component_is_told_and_the_others_go_on(bench, wish, reason, code):
    bench.behave("train/a-1", wish)
    assert bench.run() == 1
    assert set(ALL) - set(bench.ended) == {"train/a-1", "evaluate/a-1"}
    failure = read_json(bench.directory.stage("train/a-1") / "failure.json")
    assert (failure["reason"], failure["exitCode"]) == (reason, code)
    assert "the last line" in failure["logTail"] or wish == "die"
    (bench.root / "behave" / "train-a-1").unlink()
    assert bench.run() == 0
    assert bench.ended == ["train/a-1", "evaluate/a-1", "report"]


def test_fail_fast_stops_the_others(tmp_path):
    bench = Bench(tmp_path, failurePolicy="FailFast")
    bench.behave("train/a-1", "fail")
    assert bench.run() == 1
    assert "train/b-1" not in bench.ended


def test_success_policy(tmp_path):
    bench = Bench(tmp_path, successPolicy={"type": "AtLeast", "count": 2})
    bench.behave("train/a-1", "fail")
    assert bench.run() == 0


def test_a_deadline_ends_a_component(tmp_path):
    bench = Bench(tmp_path, activeDeadlineSeconds=1)
    bench.behave("train/b-1", "sleep 60")
    assert bench.run() == 1
    assert read_json(bench.directory.stage("train/b-1") / "failure.json")["reason"] == "DeadlineExceeded"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_goes_on_where_it_was(bench, number):
    bench.behave("train/a-1", "sleep 60")
    process = bench.start()
    child = wait_for(bench.root / "asleep")
    process.send_signal(number)
    process.communicate(timeout=120)
    assert process.returncode == 130
    assert not alive(child)
    before = bench.ended
    assert "prepare" in before
    (bench.root / "behave" / "train-a-1").unlink()
    assert bench.run() == 0
    assert not set(before) & set(bench.ended)
    assert {*before, *bench.ended} == set(ALL)


def test_a_killed_runner_leaves_nothing_running(bench):
    bench.behave("train/a-1", "sleep 60")
    process = bench.start()
    child = wait_for(bench.root / "asleep")
    process.kill()
    process.wait()
    eventually(lambda: not alive(child))
    process.stderr.close()


def test_two_runs_in_one_directory(bench):
    bench.behave("prepare", "sleep 60")
    first = bench.start()
    wait_for(bench.root / "asleep")
    assert bench.run() == 70
    assert f"is in use by process {first.pid}" in bench.told
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=120)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")
def test_a_full_disk_ends_the_run_with_its_reason_and_the_next_goes_on(bench):
    bench.behave("train/a-1", "fill")
    bench.directory.root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(bench.directory.root)], check=True)
    try:
        assert bench.run() == 69
        assert "no room left in" in bench.told
        (bench.directory.root / "ballast").unlink()
        (bench.root / "behave" / "train-a-1").unlink()
        assert bench.run() == 0
        assert "prepare" not in bench.ended
        assert "train/a-1" in bench.ended
    finally:
        subprocess.run(["umount", "--lazy", str(bench.directory.root)], check=True)
