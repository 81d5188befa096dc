"""Every example, rendered: the golden files show each object, and a real API server takes them all.

`pytest tests/operator/planning/test_golden.py --update-golden` writes them anew; the difference is then for review.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from unisd_operator.planning.render import render, to_yaml
from unisd_operator.settings import Settings

from tests.cluster.cluster import Cluster
from tests.operator.planning.world import EXAMPLES
from unisd.config.load import load_cluster_run

GOLDEN = Path(__file__).parent / "golden"
EXAMPLE = pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
KUEUE = [example for example in EXAMPLES if example.stem in ("full", "queue")]


def golden(example: Path) -> list[dict[str, Any]]:
    with (GOLDEN / example.name).open(encoding="utf-8") as file:
        return list(yaml.load_all(file, Loader=yaml.CSafeLoader))


@EXAMPLE
def test_an_example_renders_as_its_golden_file_shows(example: Path, request: pytest.FixtureRequest) -> None:
    text = to_yaml(render(load_cluster_run(example), Settings()))
    file = GOLDEN / example.name
    if request.config.getoption("--update-golden"):
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8"), f"{file.name} differs: look at it after --update-golden"


def test_no_golden_file_is_left_over() -> None:
    assert {file.name for file in GOLDEN.glob("*.yaml")} == {example.name for example in EXAMPLES}


@EXAMPLE
def test_no_child_holds_a_secrets_value_or_outgrows_etcd(example: Path) -> None:
    for item in golden(example):
        assert item["kind"] == "Secret" or "QVBJLUtFWQ" not in str(item)
        assert len(json.dumps(item).encode()) < 2**20
        assert len(item["metadata"]["name"]) <= 52


@pytest.fixture
def place(cluster: Cluster, namespace: str) -> Iterator[str]:
    """A namespace with what `full.yaml` names: a ServiceAccount, and a PriorityClass of the cluster."""
    priority = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": 1}
    cluster.apply({**priority, "metadata": {"name": "research-high"}})
    cluster.kubectl("create", "serviceaccount", "trainer", "-n", namespace)
    yield namespace
    cluster.kubectl("delete", "priorityclass", "research-high")


def test_an_api_server_takes_every_object_and_every_pod_of_them(cluster: Cluster, place: str) -> None:
    labels = cluster.json("get", "namespace", place)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    for example in EXAMPLES:
        objects = [placed(item, place) for item in golden(example) if item["kind"] != "Workload"]
        said = dry_run(cluster, place, objects)
        assert said.count("serverside-applied") == len(objects)
        pods = [pod_of(item) for item in objects if item["kind"] in ("Job", "Deployment")]
        assert dry_run(cluster, place, pods).count("serverside-applied") == len(pods)


def test_pods_that_are_not_restricted_would_be_refused_there(cluster: Cluster, place: str) -> None:
    pod = pod_of(next(placed(item, place) for item in golden(EXAMPLES[0]) if item["kind"] == "Job"))
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    with pytest.raises(AssertionError, match="allowPrivilegeEscalation"):
        dry_run(cluster, place, [pod])


@pytest.mark.slow
def test_kueue_takes_every_workload(fresh_cluster: Cluster) -> None:
    fresh_cluster.start_kueue()
    namespace = fresh_cluster.create_namespace()
    for example in KUEUE:
        workloads = [placed(item, namespace) for item in golden(example) if item["kind"] == "Workload"]
        assert workloads
        assert dry_run(fresh_cluster, namespace, workloads).count("serverside-applied") == len(workloads)


def placed(item: dict[str, Any], namespace: str) -> dict[str, Any]:
    """The object in another namespace."""
    return {**item, "metadata": {**item["metadata"], "namespace": namespace}}


def pod_of(maker: Mapping[str, Any]) -> dict[str, Any]:
    """A pod as the Job or Deployment would make it."""
    template = json.loads(json.dumps(maker["spec"]["template"]))
    metadata = {**template["metadata"], "name": f"{maker['metadata']['name']}-{maker['kind'].lower()}"}
    metadata["namespace"] = maker["metadata"]["namespace"]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def dry_run(cluster: Cluster, namespace: str, objects: list[dict[str, Any]]) -> str:
    """What kubectl says of objects that the API server is asked to take, without keeping them."""
    items = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    return cluster.kubectl("apply", "--server-side", "--dry-run=server", "-n", namespace, "-f", "-", input=items)
