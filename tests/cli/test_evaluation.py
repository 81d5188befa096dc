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
        (["--model", "m", "--directory", "out"], "give one of them"),
        (["--model", "a b", "--task", "cos_e"], "--model: 'a b' is neither a path that is there nor a hub id"),
        (["--model", "org/none", "--task", "cos_e"], "--model: org/none is no path that is there, and cannot be"),
        (["--model", tiny_model, "--base", "/none", "--task", "cos_e"], "--base: /none does not exist"),
        (["--model", "m", "--task", "mbpp,mbpp-full"], "--task: mbpp-full is the task mbpp, which stands there"),
        (["--model", "m", "--task", "cos_e", "--source", "mbpp=rows"], "--source: mbpp is none of --task: cos_e"),
        (["--model", "m", "--task", "cos_e", "--grading", "exact"], "belong to task custom"),
        (["--model", "m", "--task", "cos_e,gsm8k", "--structured"], "--structured: answers to gsm8k have no form"),
        (["--model", "m", "--task", "custom", "--grading", "regex"], "--pattern: grading regex needs a pattern"),
        (["--model", "m", "--task", "custom", "--grading", "regex", "--pattern", "("], "--pattern: is no regular"),
        (["--model", "m", "--task", "custom", "--grading", "regex", "--pattern", "a"], "--pattern: has no group"),
        (
            ["--model", "m", "--task", "cos_e", "--server", "http://x", "--adapter", "a"],
            "--server: what a server holds",
        ),
        (
            ["--model", "m", "--task", "cos_e", "--server", "gpu:8000"],
            "--server: give a URL, e.g. http://gpu:8000 (got",
        ),
        (["--model", "m", "--task", "cos_e", "--server", "http://x", "--key-env", "NO_KEY"], "NO_KEY is not set"),
    ):
        assert run("evaluate", *arguments) == 65
        assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "value", "told"),
    [
        ("--samples", "0", "should be a whole number from 1 on, got '0'"),
        ("--max-tokens", "-1", "should be a whole number from 1 on"),
        ("--batch-size", "many", "should be a whole number from 1 on"),
        ("--max-examples", "1.5", "should be a whole number from 1 on"),
        ("--passes", "1,0", "should be a whole number from 1 on, got '0'"),
        ("--temperature", "-0.1", "should be a finite number from 0 on"),
        ("--temperature", "nan", "should be a finite number from 0 on"),
        ("--grading", "fuzzy", "invalid choice: 'fuzzy'"),
    ],
)
def test_numbers_that_cannot_be_are_told_with_their_flag(flag, value, told, capsys):
    assert run("evaluate", "--model", "m", "--task", "cos_e", flag, value) == 2
    error = capsys.readouterr().err
    assert f"argument {flag}: " in error
    assert told in error


def test_a_subset_is_not_lost(tiny_model, cache, capsys, tmp_path):
    row = {"task_id": 1, "text": "Write f.", "code": "def f(a):\n    return a", "test_list": ["assert f(1) == 1"]}
    (tmp_path / "test.jsonl").write_text(json.dumps(row) + "\n")
    arguments = ["evaluate", "--model", tiny_model, "--source", tmp_path, "--max-tokens", "4", "--no-perplexity"]
    assert run(*arguments, "--task", "mbpp-full", "--output", tmp_path / "out") == 0
    assert json.loads((tmp_path / "out/evaluation.json").read_text())["tasks"]["mbpp"]["rows"] == 1
