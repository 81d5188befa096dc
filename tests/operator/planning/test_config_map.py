import json
from typing import Any

from unisd_operator.planning.config_map import config_hash, config_map, frozen_manifest, volume

from tests.operator.planning.world import attempt, resource
from unisd.config.load import parse_cluster_run, parse_run


def spec_of(**spec: Any) -> dict[str, Any]:
    found: dict[str, Any] = frozen_manifest(resource(**spec))["spec"]
    return found


def test_pods_read_a_manifest_that_parses() -> None:
    run = resource(rollout={"engine": "transformers"}, storage={"size": "1Ti"}, parallelism=2)
    data = json.loads(config_map(attempt(run))["data"]["run.json"])
    assert [arm["name"] for arm in data["spec"]["components"]] == ["star", "sft"]
    assert parse_run(data).spec.components == run.spec.components


def test_a_blank_block_is_none() -> None:
    assert spec_of(outputs=None) == spec_of()


def test_what_may_change_while_a_run_lives_does_not_stand_in_it() -> None:
    changing = {"suspend": True, "parallelism": 4, "backoffLimit": 0, "activeDeadlineSeconds": 60}
    more = {"preRunningDeadlineSeconds": 60, "progressDeadlineSeconds": 60, "ttlSecondsAfterFinished": 1}
    assert frozen_manifest(resource(**changing, **more)) == frozen_manifest(resource())
    assert config_hash(resource(**changing), "star-1") == config_hash(resource(), "star-1")


def test_no_environment_of_a_pod_is_copied() -> None:
    pod = {"env": [{"name": "TOKEN", "value": "do-not-copy"}]}
    run = resource(
        trainer={"pod": pod, "numNodes": 2},
        rollout={"pod": pod, "image": "x"},
        evaluation={"pod": pod},
        preparation={"pod": pod},
    )
    assert "do-not-copy" not in config_map(attempt(run))["data"]["run.json"]
    assert frozen_manifest(run)["spec"]["trainer"] == {"numNodes": 2}


def test_paths_are_those_that_pods_see() -> None:
    assert spec_of(model={"path": "models/a"})["model"] == {"path": "/data/models/a"}
    claim = {"claim": {"name": "models", "path": "a/b"}, "lora": {"rank": 8}}
    assert spec_of(model=claim)["model"] == {"path": "/model/a/b", "lora": {"rank": 8}}
    rows = spec_of(task={"name": "custom", "source": {"path": "rows"}})
    assert rows["task"]["source"] == {"path": "/data/rows"}
    other = spec_of(evaluation={"tasks": ["gsm8k"], "sources": [{"task": "gsm8k", "path": "rows"}]})
    assert other["evaluation"]["sources"] == [{"task": "gsm8k", "path": "/data/rows"}]


def test_rows_in_a_config_map_are_mounted_beside_the_manifest() -> None:
    source = {"configMap": {"name": "mine", "key": "a.jsonl"}}
    run = resource(task={"name": "custom", "source": source})
    assert frozen_manifest(run)["spec"]["task"]["source"] == {"path": "/etc/unisd/rows.jsonl"}
    mounted = volume(attempt(run))[0]["projected"]["sources"]
    assert mounted[1] == {"configMap": {"name": "mine", "items": [{"key": "a.jsonl", "path": "rows.jsonl"}]}}


def test_the_hash_tells_components_and_settings_apart() -> None:
    run = resource()
    assert config_hash(run, "star-1") != config_hash(run, "sft-1")
    assert config_hash(run, "star-1") != config_hash(resource(training={"learningRate": 1e-3}), "star-1")
    assert config_hash(run, "star-1") == config_hash(
        resource(components=[{"name": "star", "preset": "unisd_star"}]), "star-1"
    )


def test_the_largest_run_fits_a_config_map() -> None:
    block = {"preset": "agreement_tok_retrieval", "agreement": {"gamma": 0.1}, "contexts": {"count": 5}}
    block |= {"ema": {"decay": 0.98}, "clip": {"quantile": 0.9}, "training": {"learningRate": 5.0e-5, "epochs": 2}}
    components = [{"name": f"component-number-{index}", **block} for index in range(32)]
    run = resource(components=components, seeds=[2**31 - 1, 2**31 - 2])
    text = config_map(attempt(run, "component-number-1-2147483647"))["data"]["run.json"]
    assert len(text.encode()) < 2**20 / 8
    assert parse_cluster_run(json.loads(text)) is not None
