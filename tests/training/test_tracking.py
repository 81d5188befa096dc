"""Figures that leave for Weights & Biases: what is asked for, and what must never be."""

import json

import pytest

from unisd.failures import StageError
from unisd.job import Job
from unisd.training.tracking import refused, tracked

TRACKING = {"wandb": {"project": "unisd-tests", "entity": "lab"}}


@pytest.fixture
def job(make_run):
    def make(**spec):
        from unisd.config.resolve import resolve

        run, directory = make_run(components=[{"name": "star", "preset": "unisd_star"}], **spec)
        directory.train("star-1").mkdir(parents=True, exist_ok=True)
        return Job(run, directory, resolve(run.spec)[0])

    return make


def test_nothing_is_sent_unless_it_is_asked_for(job):
    silent = job()
    with tracked(silent):
        assert silent.progress.follow is None
    assert not list(silent.directory.train("star-1").iterdir())


def test_a_missing_key_is_told_before_anything_starts(job, monkeypatch):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    with (
        pytest.raises(StageError, match=r"WANDB_API_KEY is not set: .* WANDB_MODE=offline"),
        tracked(job(tracking=TRACKING)),
    ):
        pass


def test_a_service_that_does_not_answer_is_tried_again_and_a_wrong_key_is_not():
    from wandb.errors import AuthenticationError, CommError

    told = [refused(error) for error in (CommError("timed out"), AuthenticationError("invalid key"))]
    assert [error.reason for error in told] == ["NonZeroExit", "BadInput"]
    assert str(told[0]) == "spec.tracking.wandb: timed out; WANDB_MODE=offline does without it"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::pydantic.warnings.PydanticDeprecationWarning")
def test_offline_every_step_is_kept_and_the_key_nowhere(job, monkeypatch, capfd):
    key = "k" * 40
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", key)
    asked = job(tracking=TRACKING)
    with tracked(asked):
        asked.progress.update(1, 2, {"loss": 0.5})
        asked.progress.update(2, 2, {"loss": 0.25})
    assert asked.progress.follow is None
    folder = asked.directory.train("star-1")
    (record,) = folder.rglob("*.wandb")
    kept = record.read_bytes()
    assert b"loss" in kept
    assert b"unisd-tests" in kept
    everything = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    assert not any(key.encode() in text for text in everything)
    assert key not in "".join(capfd.readouterr())
    summaries = [json.loads(path.read_text()) for path in folder.rglob("wandb-summary.json")]
    assert all(summary["loss"] == 0.25 for summary in summaries)
