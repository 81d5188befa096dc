"""`unisd experiments` and `unisd train` as users of the research code type them."""

from pathlib import Path

import pytest
import yaml

from unisd.cli import main
from unisd.cli.flags import written
from unisd.experiments.modes import MODES

EXAMPLES = Path(__file__).parents[2] / "examples"
ROWS = f"cos_e={EXAMPLES / 'data/cos_e'}"


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return ended.value.code


def test_options_mean_the_same_before_and_after_the_subcommand(capsys, tmp_path):
    """In the research code `--dry-run ema` launched real jobs."""
    options = ["--dry-run", "--dataset", "cos_e", "--output", tmp_path / "out", "--ref_model_mixup_beta", "0.9,0.98"]
    assert run("experiments", *options, "ema") == 0
    before = capsys.readouterr().out
    assert run("experiments", "ema", *options) == 0
    assert capsys.readouterr().out == before
    assert "train/ema-b0p98-1" in before
    assert "1 runs, 3 components with their seeds; nothing was written" in before
    assert not (tmp_path / "out").exists()


def test_lists_and_repeats_are_the_same(capsys, tmp_path):
    common = ["experiments", "contrastive", "--dataset", "cos_e", "--manifests-only", "--output", tmp_path]
    common += ["--parallelism", "2"]
    assert run(*common, "--weight", "0.1,0.5", "--margin", "0.5", "--seeds", "1,2") == 0
    first = capsys.readouterr().out
    repeated = ["--weight", "0.1", "--weight", "0.5", "--margin", "0.5", "--seed", "1", "--seed", "2"]
    assert run(*common, *repeated) == 0
    assert capsys.readouterr().out == first
    manifest = yaml.safe_load(Path(first.strip()).read_text())
    assert manifest["spec"]["seeds"] == [1, 2]
    assert manifest["spec"]["parallelism"] == 2
    assert [c.get("contrastive") for c in manifest["spec"]["components"]] == [
        None, {"weight": 0.1, "margin": 0.5}, {"weight": 0.5, "margin": 0.5}
    ]  # fmt: skip


def test_a_weight_is_that_of_the_subcommand(capsys, tmp_path):
    common = ["--dataset", "cos_e", "--manifests-only", "--output", tmp_path, "--weight", "0.3"]
    assert run("experiments", "match_joint", *common) == 0
    manifest = yaml.safe_load(Path(capsys.readouterr().out.strip()).read_text())
    assert manifest["spec"]["components"][1]["features"] == {"weight": 0.3}
    assert run("experiments", "ema", *common) == 65
    assert "--weight: ema has no term of one weight" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--apply", "--gpus", "0"], "--gpus: is of this machine: leave it or --apply out"),
        (["-n", "research"], "--namespace: is of a cluster: give --apply with it"),
    ],
)
def test_options_of_another_place_are_refused(options, told, capsys):
    assert run("experiments", "ema", "--dataset", "cos_e", "--dry-run", *options) == 65
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("subcommand", MODES)
def test_every_subcommand_makes_valid_runs_here_and_on_a_cluster(subcommand, capsys, tmp_path):
    arguments = [subcommand, "--datasets", "mbpp,tooluse,scienceqa-all,cos_e,medmcqa", "--cross-eval"]
    assert run("experiments", *arguments, "--dry-run") == 0
    assert run("experiments", *arguments, "--dry-run", "--apply") == 0
    assert "5 runs" in capsys.readouterr().out


def test_what_is_wrong_is_told_before_anything_is_written(capsys, tmp_path):
    out = tmp_path / "out"
    for arguments, told in (
        (["clip", "--dataset", "cos_e", "--token_clip", "10"], "never acts"),
        (["ema", "--dataset", "cos_e", "--modes", "clip"], "--modes: clip is none of ema"),
        (["ema"], "--datasets: give one or several"),
        (["ema", "--dataset", "cos_e", "--baselines", "dpo"], "no preset 'dpo'"),
        (["ema", "--datasets", "cos_e,mbpp", "--source", "rows"], "names no task: write TASK=PATH"),
        (["ema", "--dataset", "cos_e", "--source", "cos_e="], "--source: 'cos_e=' names no path"),
        (["ema", "--dataset", "cos_e", "--models", ""], "--models: is empty; leave it out for the default"),
        (["ema", "--dataset", "cos_e", "--seeds", ","], "--seeds: is empty"),
    ):
        assert run("experiments", *arguments, "--output", out) == 65
        assert told in capsys.readouterr().err
    assert not out.exists()


def test_gpus_and_directories_that_are_not_there_are_told(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    (tmp_path / "file").touch()
    for arguments, told in (
        (["--gpus", "1,7", "--output", tmp_path / "out"], "--gpus: there is no GPU 7; this machine shows 0, 1"),
        (["--output", tmp_path / "file"], f"--output: {tmp_path / 'file'} cannot be made (File exists)"),
    ):
        assert run("experiments", "ema", "--dataset", "cos_e", *arguments) == 65
        assert told in capsys.readouterr().err
    assert run("experiments", "ema", "--dataset", "cos_e", "--per_device", "0") == 2
    assert "should be a whole number from 1 on, got '0'" in capsys.readouterr().err


def test_train_prints_the_manifest_that_its_flags_stand_for(capsys):
    flags = ["--dataset", "scienceqa", "--model_name", "Qwen/Qwen2.5-0.5B-Instruct", "--dry-run"]
    flags += ["--per_device_train_batch_size", "2", "--num-auxiliary-contexts", "5"]
    assert run("train", "--mode", "agreement_tok_retrieval", *flags) == 0
    manifest = yaml.safe_load(capsys.readouterr().out)
    assert manifest["spec"]["components"] == [{
        "name": "tok-ret-k5-bs2", "preset": "agreement_tok_retrieval", "contexts": {"count": 5},
        "training": {"perDeviceBatchSize": 2},
    }]  # fmt: skip
    assert manifest["spec"]["rollout"] == {"engine": "transformers"}
    assert run("train", "--mode", "agreement_tok_retrieval", *flags, "--use_vllm") == 0
    assert yaml.safe_load(capsys.readouterr().out)["spec"]["rollout"] == {"engine": "vllm"}


def test_the_two_forms_of_train_do_not_mix(capsys):
    for arguments, told in (
        (["-f", "run.yaml", "--mode", "ema"], "give one of them"),
        (["-f", "run.yaml", "--arm", "a-1"], "--directory is missing"),
        (["--mode", "ema"], "give --mode and --dataset"),
        (["--mode", "emma", "--dataset", "cos_e"], "no mode 'emma'"),
        (["--mode", "ema", "--dataset", "cos_e", "--model_name", ""], "--model_name: is empty"),
    ):
        assert run("train", *arguments) == 65
        assert told in capsys.readouterr().err


@pytest.mark.parametrize("place", ["train/checkpoint-2", "3/train/checkpoint-2", "train/result.json"])
def test_a_training_that_must_be_resumed_needs_a_checkpoint(place, tmp_path, capsys):
    of_a_run = ["--mode", "ema", "--dataset", "cos_e", "--model_name", "/nowhere", "--directory", tmp_path]
    of_the_stage = ["-f", tmp_path / "none.yaml", "--directory", tmp_path, "--arm", "ema-1"]
    for arguments in (of_a_run, of_the_stage):
        assert run("train", *arguments, "--resume") == 65
        assert f"--resume: {tmp_path} has no checkpoint of ema-1" in capsys.readouterr().err
    (tmp_path / "components/ema-1" / place).mkdir(parents=True)
    assert run("train", *of_the_stage, "--resume") == 65
    assert "none.yaml: (file): cannot be read" in capsys.readouterr().err


@pytest.mark.slow
def test_an_experiment_runs_and_a_second_call_does_nothing(tiny_model, tmp_path, capfd, cache):
    arguments = ["ema", "--model_name", tiny_model, "--dataset", "cos_e-max4", "--source", ROWS, "--output", tmp_path]
    arguments += ["--max_eval_examples", "4", "--max_completion_length", "8", "--lora_r", "4", "--precision", "float32"]
    assert run("experiments", *arguments) == 0
    assert "finished  ema-cos-e-max4" in capfd.readouterr().out
    (report,) = tmp_path.glob("*/report/report.json")
    assert run("experiments", *arguments, "--dry-run") == 0
    assert "to do" not in capfd.readouterr().out
    before = report.stat().st_mtime_ns
    assert run("experiments", *arguments) == 0
    assert report.stat().st_mtime_ns == before


def test_a_manifest_that_is_being_read_stays_whole(tmp_path):
    path = written({"kind": "first"}, tmp_path / "out" / "run.yaml")
    with path.open() as reading:
        written({"kind": "second"}, path)
        assert reading.read() == "kind: first\n"
    assert path.read_text() == "kind: second\n"
