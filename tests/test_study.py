"""examples/study.yaml through the command line with the tiny model: modes and baselines, side by side, resumed.

Induction is left out: random weights write no instruction that could be used.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from unisd.config.presets import PRESETS
from unisd.files import read_json
from unisd.rundir import RunDir

EXAMPLES = Path(__file__).parents[1] / "examples"


def study(name):
    return yaml.safe_load((EXAMPLES / name).read_text())["spec"]


def test_the_study_has_every_preset_once_and_three_seeds():
    spec = study("study.yaml")
    assert sorted(component["preset"] for component in spec["components"]) == sorted(PRESETS)
    assert spec["seeds"] == [1, 2, 3]
    assert spec["contexts"]["layout"] == "turns"


def test_the_other_layout_is_studied_on_components_of_the_same_study():
    spec, other = study("study.yaml"), study("study-marker.yaml")
    assert all(component in spec["components"] for component in other["components"])
    assert other["contexts"].pop("layout") == "marker"
    spec["contexts"].pop("layout")
    same = ("model", "task", "contexts", "rollout", "training", "evaluation")
    assert [other[block] for block in same] == [spec[block] for block in same]


def kept():
    """The components that a model of random weights can carry out."""
    return [component for component in study("study.yaml")["components"] if "induction" not in component["name"]]


@pytest.fixture(scope="module")
def finished(tiny_model, tmp_path_factory):
    """The study at its smallest, carried out twice."""
    root = tmp_path_factory.mktemp("study")
    data = yaml.safe_load((EXAMPLES / "study.yaml").read_text())
    spec = data["spec"]
    spec["model"]["path"], spec["seeds"], spec["components"] = str(tiny_model), [1], kept()
    spec["task"] |= {"source": {"path": str(EXAMPLES / "data/cos_e")}, "maxTrainExamples": 8, "maxEvalExamples": 4}
    spec["contexts"] |= {"maxGeneratedTokens": 8, "maxMissingNegatives": 1.0}
    small = {"maxSteps": 1, "perDeviceBatchSize": 4, "maxPromptTokens": 1500, "maxCompletionTokens": 8, "threads": 1}
    spec["training"] |= {**small, "maskTruncated": False, "precision": "float32"}
    (root / "study.yaml").write_text(yaml.safe_dump(data))
    command = [sys.executable, "-c", "from unisd.cli import main; main()", "run", "-f", str(root / "study.yaml")]
    command += ["--directory", str(root / "out"), "--parallelism", "2"]
    environment = {**os.environ, "UNISD_CACHE": str(root / "cache"), "TERM": "dumb"}
    first, again = (
        subprocess.run(command, capture_output=True, text=True, check=False, env=environment) for _ in range(2)
    )
    return RunDir(root / "out"), first, again


@pytest.mark.slow
def test_all_components_end_in_one_table_with_paired_tests_and_a_plot(finished):
    directory, first, _ = finished
    assert first.returncode == 0, first.stdout + first.stderr
    report = read_json(directory.report / "report.json")
    names = [component["name"] for component in kept()]
    assert list(report["tasks"]["cos_e"]["components"]) == names
    assert [row["component"] for row in report["tasks"]["cos_e"]["comparisons"]] == names[1:]
    page = (directory.report / "report.md").read_text()
    assert all(f"\n| {name} | " in page for name in names)
    assert (directory.report / "scores-cos_e.svg").read_text().count("<circle") == 2 * len(names)


@pytest.mark.slow
def test_the_same_command_goes_on_where_the_first_ended(finished):
    _, _, again = finished
    assert again.returncode == 0
    assert "running" not in again.stdout
