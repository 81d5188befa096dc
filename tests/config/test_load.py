"""Manifests from files: what is none is told, paths are relative to the file, and every example loads."""

import copy
import json
from pathlib import Path

import pytest
import yaml

from tests.config.manifests import manifest
from unisd.config.base import ConfigError
from unisd.config.load import load_cluster_run, load_run, parse_cluster_run, parse_run, plain
from unisd.config.resolve import evaluated_tasks, resolve

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("text", ["a: [", "- 1", "a: 1\n---\nb: 2", ""])
def test_files_that_are_no_manifest(tmp_path, text):
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=str(path)):
        load_run(path)


def test_a_key_that_stands_twice_is_told_with_its_line(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(manifest()) + "metadata: {name: again}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"metadata stands here twice\n.* line \d+"):
        load_run(path)


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"seeds": ["1"]}, r"spec.seeds\[0\]: should be a valid integer \(got '1'\)"),
        ({"backoffLimit": True}, r"spec.backoffLimit: should be a valid integer \(got True\)"),
        ({"suspend": "yes"}, r"spec.suspend: should be a valid boolean \(got 'yes'\)"),
        ({"evaluation": {"perplexity": 1}}, r"spec.evaluation.perplexity: should be a valid boolean \(got 1\)"),
        ({"trainer": {"pod": {"env": [{"value": "x"}]}}}, r"spec.trainer.pod.env\[0\]: needs a name of at most 253"),
        ({"trainer": {"pod": {"env": [{"name": "A", "value": 1}]}}}, r"env\[0\]: its value must be text of at most"),
        ({"trainer": {"pod": {"env": [{"name": "A", "value": "x" * 65537}]}}}, r"env\[0\]: its value must be text"),
        ({"trainer": {"resourcesPerNode": {"limits": {"cpu": 2**63}}}}, r"limits.cpu: should be a valid string"),
    ],
)
def test_a_value_of_another_type_is_refused_as_the_api_server_does(spec, told):
    with pytest.raises(ConfigError, match=told):
        parse_run(manifest(**spec))


def test_null_is_nothing_and_a_whole_number_may_have_a_point():
    given = manifest(training={"epochs": 3.0, "maxSteps": None}, seeds=None, model={"name": "a/b", "lora": None})
    meant = manifest(training={"epochs": 3}, model={"name": "a/b"})
    assert parse_run(given) == parse_run(meant)
    assert plain(parse_run(given)) == meant


def test_what_the_api_server_adds_is_passed_over():
    stored = {**manifest(), "status": {"phase": "Running"}}
    stored["metadata"] |= {"uid": "u", "resourceVersion": "1", "generation": 1, "managedFields": []}
    stored["metadata"] |= {"creationTimestamp": "2026-01-01T00:00:00Z", "annotations": {"last": "x" * 5000}}
    del (run := plain(parse_cluster_run(stored)))["metadata"]["annotations"]
    assert run == manifest()


def test_a_manifest_that_holds_itself_is_told(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("spec: &spec {model: *spec}", encoding="utf-8")
    with pytest.raises(ConfigError, match="nested too deeply, or holds itself"):
        load_run(path)


def test_paths_are_relative_to_the_manifest(tmp_path):
    other = {"tasks": ["cos_e", "gpqa"], "sources": [{"task": "gpqa", "path": "questions"}]}
    data = manifest(
        model={"path": "model"}, task={"name": "cos_e", "source": {"path": "rows"}, "seed": 4}, evaluation=other
    )
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    run = load_run(tmp_path / "run.yaml")
    assert run.spec.model.path == str(tmp_path / "model")
    assert run.spec.task.source.path == str(tmp_path / "rows")
    own, gpqa = evaluated_tasks(run.spec)
    assert own == run.spec.task
    assert (gpqa.name, gpqa.source.path, gpqa.seed) == ("gpqa", str(tmp_path / "questions"), 4)


@pytest.mark.parametrize(
    ("model", "there"),
    [("models/encoder", True), ("org/encoder", False), ("x" * 4096, False)],
    ids=["directory", "hub id", "too long for a name"],
)
def test_an_embedding_model_is_a_directory_beside_the_manifest_or_a_hub_id(model, there, tmp_path):
    (tmp_path / "models/encoder").mkdir(parents=True)
    data = manifest(contexts={"embeddingModel": model})
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    found = load_run(tmp_path / "run.yaml").spec.contexts.embedding_model
    assert found == (str(tmp_path / model) if there else model)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_is_valid_and_round_trips(path):
    on_a_cluster = "configMap" in path.read_text()
    run = load_cluster_run(path) if on_a_cluster else load_run(path)
    again = (parse_cluster_run if on_a_cluster else parse_run)(json.loads(json.dumps(plain(run))))
    assert again == run
    assert resolve(again.spec) == resolve(run.spec)
    assert copy.deepcopy(run) == run
