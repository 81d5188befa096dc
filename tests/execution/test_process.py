"""A stage in its process, as a pod runs it: finished stages, exit codes, last words, SIGTERM."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from tests.cluster.waiting import eventually
from unisd.config.load import plain
from unisd.execution import process
from unisd.execution.process import carry_out
from unisd.failures import StageError
from unisd.files import read_json, write_json
from unisd.job import Job
from unisd.rundir import RunDir
from unisd.stages import stages

MAIN = "import sys\nfrom unisd.cli import main\nmain(sys.argv[1:])"


@pytest.fixture
def work(make_run, monkeypatch):
    """Carries out the training stage of an attempt, with work as told in place of a training."""

    def carry(attempt, does, writes=True):
        run, directory = make_run(components=[{"name": "star", "preset": "unisd_star"}])
        stage = next(stage for stage in stages(run, {}) if stage.kind == "train")
        monkeypatch.setattr(process, "stage_function", lambda _kind: does)
        job = Job(run, RunDir(directory.root, attempt), stage.arm)
        return carry_out(job, stage, writes), job.directory, stage

    return carry


def never(_job):
    raise AssertionError("a finished stage does no work")


def test_a_finished_stage_ends_at_once_in_any_attempt(work):
    outcome, directory, stage = work(1, lambda job: None)
    assert outcome.exit_code == 0
    assert read_json(directory.stage(stage.name) / "done.json")["hash"] == stage.hash
    assert work(2, never)[0].exit_code == 0


def test_other_inputs_are_not_finished(work):
    _, directory, stage = work(1, lambda job: None)
    write_json(directory.stage(stage.name) / "done.json", {"hash": "another", "seconds": 1.0})
    assert work(2, never)[0].message.startswith("AssertionError")


@pytest.mark.parametrize(
    ("error", "reason", "code"),
    [
        (StageError("CheckpointCorrupt", "none is whole"), "CheckpointCorrupt", 68),
        (OSError(28, "No space left on device"), "StorageFull", 69),
        (RuntimeError("unforeseen"), "NonZeroExit", 1),
    ],
)
def test_failures_have_reason_code_and_record(work, error, reason, code):
    def fails(_job):
        raise error

    outcome, directory, stage = work(1, fails)
    assert (outcome.reason, outcome.exit_code) == (reason, code)
    told = read_json(directory.stage(stage.name) / "failure.json")
    assert (told["reason"], told["exitCode"]) == (reason, code)
    assert not (directory.stage(stage.name) / "done.json").exists()


def test_one_of_several_pods_keeps_the_record(work):
    _, directory, stage = work(1, lambda job: None, writes=False)
    assert not directory.stage(stage.name).exists()


def test_of_pods_that_fail_together_the_one_that_knows_why_counts(work):
    def fails(reason):
        def fail(_job):
            raise StageError(reason, f"{reason} is why")

        return fail

    _, directory, stage = work(1, fails("PolicyCollapsed"))
    work(1, fails("NonZeroExit"), writes=False)
    assert read_json(directory.stage(stage.name) / "failure.json")["reason"] == "PolicyCollapsed"
    work(2, fails("NonZeroExit"), writes=False)
    work(2, fails("PolicyCollapsed"), writes=False)
    second = RunDir(directory.root, 2).stage(stage.name)
    assert read_json(second / "failure.json")["reason"] == "PolicyCollapsed"


@pytest.fixture
def pod(make_run, tmp_path):
    """Starts a stage as a pod does; returns its process and the place of its last words."""

    def start(*arguments, program=MAIN, **environment):
        words = tmp_path / "termination-log"
        words.unlink(missing_ok=True)
        command = [sys.executable, "-W", "ignore", "-c", program, *map(str, arguments)]
        env = {**os.environ, "UNISD_ATTEMPT": "1", "UNISD_TERMINATION_LOG": str(words), **environment}
        return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env), words

    return start


def test_last_words_of_a_manifest_that_is_refused(pod, tmp_path):
    (tmp_path / "bad.yaml").write_text("kind: SelfDistillRun\nspec: {model: {name: hf_abcdefgh}}\n")
    process, words = pod("prepare", "-f", tmp_path / "bad.yaml", "--directory", tmp_path, HF_TOKEN="hf_abcdefgh")
    out, err = process.communicate(timeout=240)
    assert process.returncode == 65
    told = json.loads(words.read_text())["failure"]
    assert told["reason"] == "BadInput"
    assert "spec.components: is required" in told["message"]
    assert "hf_abcdefgh" not in out + err + words.read_text()


def test_results_say_again_what_the_evaluation_found(pod, make_run):
    run, directory = make_run(components=[{"name": "star", "preset": "unisd_star"}])
    write_json(directory.manifest, plain(run))
    arguments = ("results", "-f", directory.manifest, "--directory", directory.root, "--arm", "star-1")
    process, words = pod(*arguments)
    assert "holds no evaluation of star-1" in process.communicate(timeout=240)[1]
    assert process.returncode == 65
    scores = [{"task": "cos_e", "metric": "accuracy", "score": 0.5, "low": 0.25, "high": 0.75, "items": 8}]
    write_json(RunDir(directory.root, 2).evaluate("star-1") / "evaluation.json", {"scores": scores})
    process, words = pod(*arguments)
    assert json.loads(process.communicate(timeout=240)[0]) == scores
    assert json.loads(words.read_text()) == {"result": {"evaluations": scores}}
    process, words = pod(*arguments, UNISD_TERMINATION_LOG="/nowhere/at/all")
    assert "no last words could be left" in process.communicate(timeout=240)[1]
    assert process.returncode == 0


def test_a_stage_serves_its_progress_and_sigterm_ends_it_with_its_code(pod, make_run):
    """The work is a stand-in that never ends; everything around it is the command's own."""
    run, directory = make_run(components=[{"name": "star", "preset": "unisd_star"}])
    write_json(directory.manifest, plain(run))
    asleep = directory.root / "asleep"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    sleeps = f"import pathlib, time\nfrom unisd.execution import process\n\ndef sleep(job):\n    job.progress.update(1, 4)\n    pathlib.Path({str(asleep)!r}).touch()\n    time.sleep(600)\n"
    program = f"{sleeps}\nprocess.stage_function = lambda kind: sleep\n{MAIN}"
    arguments = ("prepare", "-f", directory.manifest, "--directory", directory.root)
    child, words = pod(*arguments, program=program, UNISD_METRICS_PORT=str(port))
    eventually(asleep.exists)
    assert json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/progress", timeout=120))["step"] == 1
    child.send_signal(signal.SIGTERM)
    child.communicate(timeout=240)
    assert child.returncode == 75
    assert json.loads(words.read_text())["failure"]["reason"] == "Interrupted"
    assert read_json(directory.stage("prepare") / "failure.json")["reason"] == "Interrupted"
