"""A whole life on a real API server: what the operator sent is what `unisd render` shows."""

import json
from typing import Any

import pytest
from unisd_operator.api import names as api
from unisd_operator.planning.difference import contains
from unisd_operator.planning.render import UID, render
from unisd_operator.settings import Settings

from tests.cluster.cluster import Cluster
from tests.cluster.waiting import eventually
from tests.operator.controller.harness import Operator, ends, install, manifest
from unisd.config.load import parse_cluster_run

Objects = dict[tuple[str, str], Any]
WRITES = ("create", "patch")


@pytest.mark.slow
def test_a_run_is_applied_as_it_is_rendered(fresh_cluster: Cluster) -> None:
    install(fresh_cluster)
    eventually(Operator(fresh_cluster, leaderElection=False).leads)
    namespace = fresh_cluster.create_namespace()
    components = [
        {"name": "star", "preset": "unisd_star"},
        {"name": "a-b", "preset": "sft"},
        {"name": "raw", "preset": "raw"},
    ]
    run = manifest(
        "life",
        components=0,
        parallelism=3,
        storage={"accessMode": "ReadWriteOnce", "policy": "RetainOnFailure", "size": "1Gi"},
        task={"name": "mbpp"},
        outputs={"hub": {"repository": "me/life"}},
    )
    run["metadata"]["namespace"] = namespace
    run["spec"]["components"] = components
    fresh_cluster.apply(run)
    ends(fresh_cluster, namespace, "life", within=360)
    eventually(lambda: owners(fresh_cluster, namespace) == ["life"])  # it has completed: its claim goes with it
    uid = fresh_cluster.json("get", "sdr", "life", "-n", namespace)["metadata"]["uid"]
    shown: Objects = {key(item): item for item in render(parse_cluster_run(run), Settings())}
    sent = written(fresh_cluster, namespace, uid)
    assert sent.keys() == {name for name in shown if name[0] != "Secret"}
    for name, bodies in sent.items():
        claim = name[0] == "PersistentVolumeClaim"
        # Of what is created, and not applied, the API server tells with its own defaults.
        assert contains(plain(bodies[0]), plain(shown[name]), exactly=True), name
        assert len(bodies) == (2 if claim else 1), f"{name} was written {len(bodies)} times"


def owners(cluster: Cluster, namespace: str) -> list[str]:
    """Names of the claims' owners."""
    claims = cluster.json("get", "pvc", "-n", namespace)["items"]
    return [owner["name"] for claim in claims for owner in claim["metadata"].get("ownerReferences", ())]


def written(cluster: Cluster, namespace: str, uid: str) -> dict[tuple[str, str], list[Any]]:
    """Bodies of the children that the operator wrote, by kind and name, with the run's uid as rendering has it."""
    found: dict[tuple[str, str], list[Any]] = {}
    for event in cluster.audit():
        body = event.get("requestObject") or {}
        managed = body.get("metadata", {}).get("labels", {}).get(api.MANAGED_BY) == api.FIELD_MANAGER
        ours = event.get("objectRef", {}).get("namespace") == namespace and event["verb"] in WRITES and managed
        if ours and "kube-controller-manager" not in event["user"]["username"] and body["kind"] != "Pod":
            found.setdefault(key(body), []).append(json.loads(json.dumps(body).replace(uid, UID)))
    return found


def key(item: Any) -> tuple[str, str]:
    return item["kind"], item["metadata"]["name"]


def plain(item: Any) -> Any:
    """The object without its hash, which covers the uid."""
    metadata = {name: value for name, value in item["metadata"].items() if name != "annotations"}
    return {**item, "metadata": metadata}
