"""The command line as a user types it."""

import json
from pathlib import Path

import pytest

from unisd import __version__
from unisd.cli import main

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return ended.value.code


def test_validate_tells_good_from_bad(tmp_path, capsys):
    bad = tmp_path / "bad.yaml"
    bad.write_text("apiVersion: unisd.dev/v1alpha1\nkind: SelfDistillRun\nmetadata: {name: x}\nspec: {modle: {}}\n")
    assert run("validate", "-f", EXAMPLES / "tiny.yaml", bad) == 65
    told = capsys.readouterr()
    assert "tiny.yaml: valid" in told.out
    assert f"{bad}: spec.modle: unknown field; did you mean model?" in told.err
    assert f"{bad}: spec.components: is required" in told.err
    assert run("validate", "-f", EXAMPLES / "tiny.yaml") == 0


def test_validate_for_a_cluster(capsys):
    corpus = Path(__file__).parent / "operator/api/corpus"
    assert run("validate", "--cluster", "-f", corpus / "valid/smallest.yaml") == 0
    assert run("validate", "--cluster", "-f", corpus / "invalid/model-path-absolute.yaml") == 65
    assert "spec.model.path: must be a path in the claim" in capsys.readouterr().err


def test_schema_is_json_with_descriptions(capsys):
    assert run("schema") == 0
    schema = json.loads(capsys.readouterr().out)
    assert "nats" in json.dumps(schema)
    assert schema["properties"]["apiVersion"]["const"] == "unisd.dev/v1alpha1"


def test_the_version_is_told(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out == f"unisd {__version__}\n"


def test_explain(capsys):
    assert run("explain", "clip") == 0
    told = capsys.readouterr().out
    assert "alpha: 0.5" in told
    assert "quantile: 0.95" in told
    assert run("explain", "list") == 0
    assert "unisd_star" in capsys.readouterr().out
    assert run("explain", "nothing") == 65
    assert "unknown preset 'nothing'" in capsys.readouterr().err


def test_dry_run_lists_stages(tmp_path, capsys):
    assert run("run", "-f", EXAMPLES / "tiny.yaml", "--directory", tmp_path, "--dry-run") == 0
    told = capsys.readouterr().out
    for stage in ("prepare", "contexts", "train/star-1", "evaluate/raw-1", "report"):
        assert stage in told
    assert "train/raw-1" not in told
    assert not list(tmp_path.iterdir())


def test_what_a_run_cannot_have_is_told(tmp_path, capsys):
    (tmp_path / "file").touch()
    for arguments, code, told in (
        (["--per-device", "0"], 2, "argument --per-device: should be a whole number from 1 on, got '0'"),
        (["--parallelism", "x"], 2, "argument --parallelism: should be a whole number from 1 on, got 'x'"),
        (["--devices", "-1"], 2, "argument --devices: should be a whole number from 0 on, got '-1'"),
        (["--directory", tmp_path / "file"], 65, "--directory: {0} cannot be made (File exists): give a directory"),
    ):
        assert run("run", "-f", EXAMPLES / "tiny.yaml", *arguments) == code
        assert told.format(tmp_path / "file") in capsys.readouterr().err


def test_a_stage_that_is_not_there(tmp_path, capsys):
    assert run("train", "-f", EXAMPLES / "tiny.yaml", "--directory", tmp_path, "--arm", "none-1") == 65
    assert "has no stage train/none-1; it has prepare" in capsys.readouterr().err


def test_a_failing_stage_ends_with_its_code(tmp_path, capsys):
    text = (EXAMPLES / "tiny.yaml").read_text().replace("models/tiny", "nowhere").replace("data/", f"{EXAMPLES}/data/")
    (tmp_path / "run.yaml").write_text(text)
    assert run("prepare", "-f", tmp_path / "run.yaml", "--directory", tmp_path / "out") == 65
    assert "BadInput: spec.model" in capsys.readouterr().err


def test_stages_that_come_too_early_say_what_comes_first(tmp_path, capsys):
    for stage in (["report"], ["contexts"], ["evaluate", "--arm", "raw-1"], ["train", "--arm", "sft-1"]):
        assert run(*stage, "-f", EXAMPLES / "tiny.yaml", "--directory", tmp_path / stage[0]) == 65
        assert "prepared.json is not there: carry out the stage prepare first" in capsys.readouterr().err


def test_a_directory_that_cannot_be_made_ends_a_stage(capsys):
    assert run("prepare", "-f", EXAMPLES / "tiny.yaml", "--directory", "/dev/null/x") == 1
    assert "NonZeroExit: NotADirectoryError" in capsys.readouterr().err


def test_an_agent_without_a_key_is_refused(monkeypatch, capsys, tmp_path):
    monkeypatch.delenv("UNISD_API_KEY", raising=False)
    assert run("policy-agent", "--server", "http://127.0.0.1:1", "--adapters", tmp_path) == 65
    assert "UNISD_API_KEY" in capsys.readouterr().err
