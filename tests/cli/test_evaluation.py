"""`unisd evaluate --model` as a user types it."""

import json
from pathlib import Path

import pytest

from unisd.cli import main

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return ended.value.code


def test_one_command_scores_a_checkpoint(tiny_model, cache, capsys, tmp_path):
    arguments = ["evaluate", "--model", tiny_model, "--task", "cos_e", "--source", EXAMPLES / "data/cos_e"]
    arguments += ["--max-examples", "3", "--max-tokens", "4", "--precision", "float32", "--output", tmp_path]
    assert run(*arguments) == 0
    told = capsys.readouterr()
    assert "gold perplexity" in told.out
    assert f"written: {tmp_path / 'evaluation.json'}" in told.err
    assert json.loads((tmp_path / "evaluation.json").read_text())["tasks"]["cos_e"]["rows"] == 3


def test_what_is_wrong_is_said_of_the_flag(tiny_model, capsys, monkeypatch, cache):
    monkeypatch.delenv("NO_KEY", raising=False)
    for arguments, told in (
        ([], "--file is missing"),
        (["-f", "run.yaml", "--directory", "out"], "--arm is missing"),
        (["-f", "run.yaml", "--model", "m"], "give one of them"),
        (["--model", "m"], "--task: give one or several"),
        (["--model", "m", "--task", "squad"], "no data set 'squad'"),
        (["--model", "/nowhere", "--task", "cos_e"], "--model: /nowhere does not exist"),
        (["--model", tiny_model, "--task", "cos_e", "--source", "/nowhere"], "--source: /nowhere does not exist"),
        (["--model", "m", "--task", "cos_e", "--passes", "5"], "pass@5 needs --samples 5"),
        (
            ["--model", "m", "--task", "cos_e", "--server", "http://x", "--adapter", "a"],
            "--server: what a server holds",
        ),
        (["--model", "m", "--task", "cos_e", "--server", "http://x", "--key-env", "NO_KEY"], "NO_KEY is not set"),
    ):
        assert run("evaluate", *arguments) == 65
        assert told in capsys.readouterr().err
