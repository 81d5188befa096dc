"""`unisd experiments --apply` on a real API server: runs are made, left alone when they say the same, and refused."""

import pytest
import yaml

from unisd.cli import main


@pytest.fixture
def runs(definition, namespace, monkeypatch):
    """Lists the runs of a namespace, whose cluster the command line finds as kubectl does."""
    monkeypatch.setenv("KUBECONFIG", str(definition.kubeconfig))
    return lambda: definition.json("get", "sdr", "-n", namespace)["items"]


def apply(namespace, output, *arguments):
    command = ["experiments", "ema", "--apply", "-n", namespace, "--dataset", "cos_e", "--output", str(output)]
    with pytest.raises(SystemExit) as ended:
        main([*command, *arguments])
    return ended.value.code


def test_runs_are_applied_once_and_again_without_a_change(runs, namespace, tmp_path, capsys):
    models = ("--models", "Qwen/Qwen2.5-0.5B-Instruct,Qwen/Qwen2.5-1.5B-Instruct", "--beta", "0.9,0.98")
    assert apply(namespace, tmp_path, *models) == 0
    (first, second) = runs()
    assert {run["spec"]["model"]["name"] for run in (first, second)} == set(models[1].split(","))
    assert [component["name"] for component in first["spec"]["components"]] == ["raw", "ema-b0p9", "ema-b0p98"]
    assert first["spec"]["rollout"]["engine"] == "vllm"
    written = yaml.safe_load((tmp_path / f"{first['metadata']['name']}.yaml").read_text())
    assert written["spec"]["components"] == first["spec"]["components"]
    assert apply(namespace, tmp_path, *models) == 0
    assert [run["metadata"]["generation"] for run in runs()] == [1, 1]
    assert "applied" in capsys.readouterr().out


def test_what_the_server_refuses_is_told_in_its_words(runs, tmp_path, capsys):
    assert apply("no-such-namespace", tmp_path) == 1
    assert 'namespaces "no-such-namespace" not found' in capsys.readouterr().err
