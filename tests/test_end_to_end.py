"""The whole of examples/tiny.yaml through the command line: real stages, real report."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from unisd.files import read_json
from unisd.rundir import RunDir

pytestmark = pytest.mark.slow
EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def finished(tiny_model, tmp_path_factory):
    """A finished run of the tiny example with one component that fails."""
    root = tmp_path_factory.mktemp("run")
    data = yaml.safe_load((EXAMPLES / "tiny.yaml").read_text())
    data["spec"]["model"]["path"] = str(tiny_model)
    data["spec"]["task"]["source"]["path"] = str(EXAMPLES / "data/cos_e")
    stop = {"name": "stops", "divergence": {}, "training": {"learningRate": 1e30, "epochs": 9}}
    data["spec"]["components"].append(stop)
    (root / "run.yaml").write_text(yaml.safe_dump(data))
    environment = {**os.environ, "UNISD_CACHE": str(root / "cache"), "TERM": "dumb"}
    command = [
        sys.executable,
        "-c",
        "from unisd.cli import main; main()",
        "run",
        "-f",
        str(root / "run.yaml"),
        "--directory",
        str(root / "out"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    again = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    return RunDir(root / "out"), done, again


def test_components_are_trained_and_evaluated_and_a_failure_is_told(finished):
    directory, done, _ = finished
    assert done.returncode == 1, done.stderr
    report = read_json(directory.report / "report.json")
    assert set(report["tasks"]["cos_e"]["components"]) == {"raw", "sft", "star", "clip", "sequence"}
    assert report["failures"]["stops-1"]["reason"] == "NonFinite"
    assert "changes nothing" in report["failures"]["stops-1"]["logTail"]
    assert "NonFinite" in done.stdout
    assert re.search(r"star +\d+\.\d \[", done.stdout)
    json.dumps(report, allow_nan=False)


def test_the_second_call_does_only_what_failed(finished):
    _, _, again = finished
    assert again.returncode == 1
    ran = {line.split()[1] for line in again.stdout.splitlines() if line.startswith("running")}
    assert ran <= {"train/stops-1", "report"}


def test_the_trainer_says_where_it_served(finished):
    directory, _, _ = finished
    assert read_json(directory.stage("train/star-1") / "endpoint.json")["port"] > 0
    progress = read_json(directory.stage("train/star-1") / "progress.json")
    assert progress["progressPercentage"] == 100
    assert progress["metrics"]["loss"] >= 0
