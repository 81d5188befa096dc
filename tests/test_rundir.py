"""Where attempts write, and which attempt's result counts."""

from pathlib import Path

import pytest

from unisd.files import write_json
from unisd.rundir import RunDir


@pytest.fixture
def attempts(tmp_path: Path):
    """The directory as each of three attempts sees it, every one with a training directory."""
    found = {number: RunDir(tmp_path, number) for number in (1, 2, 10)}
    for directory in found.values():
        directory.train("star-1").mkdir(parents=True)
    return found


def test_one_machine_knows_no_attempts(tmp_path):
    directory = RunDir(tmp_path)
    assert directory.train("star-1") == directory.trained("star-1") == tmp_path / "components/star-1/train"
    assert directory.evaluate("star-1") == directory.evaluated("star-1") == tmp_path / "components/star-1/evaluate"
    assert directory.stage("train/star-1") == tmp_path / "stages/train/star-1"
    assert directory.stage("prepare") == tmp_path / "stages/prepare"
    assert directory.earlier("star-1") == []


def test_an_attempt_writes_to_a_place_of_its_own(attempts, tmp_path):
    place = tmp_path / "components/star-1/2"
    assert attempts[2].train("star-1") == place / "train"
    assert attempts[2].evaluate("star-1") == place / "evaluate"
    assert attempts[2].stage("train/star-1") == place / "stages/train"
    assert attempts[2].stage("report") == tmp_path / "stages/report"


def test_it_goes_on_from_earlier_attempts_alone(attempts):
    assert attempts[10].earlier("star-1") == [attempts[2].train("star-1"), attempts[1].train("star-1")]
    assert attempts[2].earlier("star-1") == [attempts[1].train("star-1")]
    assert attempts[1].earlier("star-1") == []


def test_the_newest_result_counts_whoever_asks(attempts, tmp_path):
    shared = RunDir(tmp_path, 1)  # e.g. the report, whose attempts are its own
    assert shared.trained("star-1") == attempts[10].train("star-1")
    for number in (1, 2):
        write_json(attempts[number].train("star-1") / "result.json", {})
    write_json(attempts[2].evaluate("star-1") / "evaluation.json", {})
    for directory in (shared, attempts[10], RunDir(tmp_path)):
        assert directory.trained("star-1") == attempts[2].train("star-1")
        assert directory.evaluated("star-1") == attempts[2].evaluate("star-1")


def test_records_of_all_attempts(attempts):
    assert attempts[2].records("train/star-1") == []
    for number in (2, 1):
        attempts[number].stage("train/star-1").mkdir(parents=True)
    assert attempts[1].records("train/star-1") == [attempts[n].stage("train/star-1") for n in (2, 1)]
