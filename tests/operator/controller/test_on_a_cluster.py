"""The whole operator on a real API server: from `kubectl apply` to status, and what must not move anything."""

import json
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.waiting import eventually
from tests.operator.controller.harness import (
    ROOT,
    SCORES,
    Operator,
    children,
    ends,
    finish_training,
    install,
    manifest,
    pod,
    status,
    wishes,
)

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def busy() -> Iterator[Cluster]:
    """A cluster with an operator."""
    with Cluster() as running:
        install(running)
        running.add_volumes(30)
        yield running


@pytest.fixture(scope="module")
def operator(busy: Cluster) -> Operator:
    """The operator of that cluster."""
    started = Operator(busy, leaderElection=False)
    eventually(started.leads)
    return started


@pytest.fixture
def namespace(busy: Cluster, operator: Operator) -> Iterator[str]:
    """A namespace that enforces Pod Security `restricted`."""
    name = busy.create_namespace()
    yield name
    busy.kubectl("delete", "sdr", "--all", "-n", name)


def trains(cluster: Cluster, namespace: str, name: str) -> dict[str, Any]:
    """Status of a run once its first component trains."""

    def look() -> dict[str, Any]:
        now = status(cluster, namespace, name)
        assert now.get("components", [{}])[0].get("phase") == "Training", json.dumps(now)[-2000:]
        return now

    return eventually(look)


def events(cluster: Cluster, namespace: str, name: str) -> list[dict[str, Any]]:
    """Events on a run."""
    found = cluster.json("get", "events", "-n", namespace, "--field-selector", f"involvedObject.name={name}")["items"]
    return [event for event in found if event["involvedObject"]["kind"] == "SelfDistillRun"]


def test_the_smallest_example_succeeds(busy: Cluster, namespace: str) -> None:
    """As it is in the repository, but for annotations that let pods on simulated nodes end."""
    busy.kubectl("apply", "-n", namespace, "-f", str(ROOT / "examples" / "operator" / "smallest.yaml"))
    name = busy.json("get", "sdr", "-n", namespace)["items"][0]["metadata"]["name"]
    for role, result in (("prepare", {}), ("train", {}), ("evaluate", {"evaluations": SCORES}), ("report", {})):
        message = json.dumps({"result": result})

        def end(role: str = role, message: str = message) -> bool:
            """Ends the pods of a role once they run, as a kubelet would."""
            selector = f"unisd.dev/role={role}"
            found = busy.json("get", "pods", "-n", namespace, "-l", selector)["items"]
            running = [item for item in found if item["status"]["phase"] == "Running"]
            for item in running:
                busy.kubectl(
                    "annotate", "pod", item["metadata"]["name"], "-n", namespace, "test.unisd.dev/succeed-after=10ms",
                    f"test.unisd.dev/message={message}",
                )  # fmt: skip
            return bool(running)

        if role == "train" and any(stage["name"] == "contexts" for stage in status(busy, namespace, name)["stages"]):
            eventually(lambda: end("contexts"))
        eventually(end)
    ended = ends(busy, namespace, name)
    assert ended["componentsEnded"] == "1/1"
    assert busy.kubectl("wait", "--for=condition=Complete", f"sdr/{name}", "-n", namespace, "--timeout=60s")


def test_a_run_of_several_components_succeeds_and_leaves_what_it_should(busy: Cluster, namespace: str) -> None:
    busy.apply(manifest("exp", components=3, parallelism=2), namespace=namespace)
    ended = ends(busy, namespace, "exp", within=240)
    assert [arm["phase"] for arm in ended["components"]] == ["Succeeded"] * 3
    assert ended["components"][0]["evaluations"][0]["score"] == 0.5
    eventually(lambda: not children(busy, namespace, "deployments,services,networkpolicies,secrets"))
    names = [job["metadata"]["name"] for job in children(busy, namespace, "jobs")]
    assert len(names) == len(set(names)) == 2 * 3 + len(ended["stages"])


def test_the_operator_owns_nothing_but_status(busy: Cluster, namespace: str) -> None:
    """Requirement O2."""
    busy.apply(manifest("exp"), namespace=namespace)
    ends(busy, namespace, "exp")
    run = busy.json("get", "sdr", "exp", "-n", namespace, "--show-managed-fields")
    ours = [entry for entry in run["metadata"]["managedFields"] if entry["manager"] == "unisd-operator"]
    assert ours
    assert {(entry.get("subresource"), *entry["fieldsV1"]) for entry in ours} == {("status", "f:status")}
    assert "finalizers" not in run["metadata"]
    assert "annotations" not in run["metadata"]


def test_nothing_is_written_when_nothing_changes(busy: Cluster, namespace: str, operator: Operator) -> None:
    """A foreign label, a re-apply, an apply by a second manager, and a resync."""
    run = manifest("exp", trains=None)
    busy.apply(run, namespace=namespace)
    trains(busy, namespace, "exp")
    eventually(lambda: all_is_told(status(busy, namespace, "exp")))
    before = wishes(busy, namespace)
    busy.apply(run, namespace=namespace)
    text = json.dumps(run | {"metadata": {"name": "exp", "namespace": namespace}})
    busy.kubectl("apply", "--server-side", "--force-conflicts", "--field-manager=second", "-f", "-", input=text)
    turns = operator.metric("unisd_reconciles_total") or 0
    busy.kubectl("label", "sdr", "exp", "-n", namespace, "team=research")
    labelled = unmetered(busy, namespace, "exp")
    eventually(lambda: (operator.metric("unisd_reconciles_total") or 0) > turns)
    time.sleep(3)
    assert wishes(busy, namespace) == before
    assert unmetered(busy, namespace, "exp") == labelled


def all_is_told(now: dict[str, Any]) -> bool:
    """Whether a training has come to rest: its server is ready, and simulated pods answer no questions of progress."""
    silent = next(one for one in now["conditions"] if one["type"] == "ProgressUnavailable")
    return silent["status"] == "True" and now["components"][0].get("rollout") == {"ready": 1, "desired": 1}


def unmetered(cluster: Cluster, namespace: str, name: str) -> dict[str, Any]:
    """A run but for its GPU time, which is counted once a minute, and for how exactly a simulated pod is out of reach.

    A write without a change makes no new version.
    """
    run: dict[str, Any] = cluster.json("get", "sdr", name, "-n", namespace)
    del run["metadata"]["resourceVersion"]
    for component in run["status"]["components"]:
        component.pop("gpuSeconds", None)
        component.pop("meteredTime", None)
    for condition in run["status"]["conditions"]:
        if condition["type"] == "ProgressUnavailable":
            del condition["message"]
    return run


def test_drift_is_repaired_where_it_may_be_and_missing_children_come_back(busy: Cluster, namespace: str) -> None:
    busy.apply(manifest("exp", trains=None), namespace=namespace)
    trains(busy, namespace, "exp")
    selector = "-l=unisd.dev/arm=star0-1"
    policies = busy.json("get", "networkpolicies", "-n", namespace, selector)["items"]
    name, spec = policies[0]["metadata"]["name"], policies[0]["spec"]
    patch = json.dumps([{"op": "replace", "path": "/spec/podSelector", "value": {"matchLabels": {"a": "b"}}}])
    busy.kubectl("patch", "networkpolicy", name, "-n", namespace, "--type=json", "-p", patch)
    eventually(
        lambda: busy.json("get", "networkpolicy", name, "-n", namespace)["spec"]["podSelector"] == spec["podSelector"]
    )
    services = {item["metadata"]["name"] for item in busy.json("get", "services", "-n", namespace, selector)["items"]}
    busy.kubectl("delete", "services", "-n", namespace, selector)
    eventually(
        lambda: (
            services
            == {item["metadata"]["name"] for item in busy.json("get", "services", "-n", namespace, selector)["items"]}
        )
    )


def test_a_deleted_run_takes_everything_with_it_and_its_metrics(
    busy: Cluster, namespace: str, operator: Operator
) -> None:
    busy.apply(manifest("exp", trains=None), namespace=namespace)
    trains(busy, namespace, "exp")
    where = {"namespace": namespace, "run": "exp", "component": "star0-1"}
    eventually(lambda: operator.metric("unisd_component_phase", **where, phase="Training"))
    busy.kubectl("delete", "sdr", "exp", "-n", namespace)

    def gone() -> bool:
        return not any(("namespace", namespace) in labels for _, labels in operator.metrics())

    eventually(gone)
    eventually(lambda: not children(busy, namespace))


def test_metrics_say_what_status_says(busy: Cluster, namespace: str, operator: Operator) -> None:
    busy.apply(manifest("exp", components=2), namespace=namespace)
    ended = ends(busy, namespace, "exp", within=240)
    complete = {"namespace": namespace, "run": "exp", "condition": "Complete"}
    eventually(lambda: operator.metric("unisd_run_condition", **complete) == 1)
    for arm in ended["components"]:
        where = {"namespace": namespace, "run": "exp", "component": arm["name"]}
        assert operator.metric("unisd_component_phase", **where, phase="Succeeded") == 1
        assert operator.metric("unisd_component_gpu_hours", **where) == pytest.approx(arm["gpuSeconds"] / 3600)
        assert operator.metric("unisd_component_score", **where, task="gsm8k", metric="accuracy") == 0.5
        series = [labels for _, labels in operator.metrics() if set(where.items()) <= set(labels)]
        assert len(series) <= 25
    assert (operator.metric("unisd_runs", phase="Succeeded") or 0) >= 1


def test_every_change_of_phase_is_told_once(busy: Cluster, namespace: str) -> None:
    busy.apply(manifest("exp", trains=None), namespace=namespace)
    trains(busy, namespace, "exp")  # one that ends at once may never be seen in training
    finish_training(busy, namespace, "exp")
    ends(busy, namespace, "exp")
    told = eventually(lambda: [e for e in events(busy, namespace, "exp") if e["message"] == "the run is Succeeded"])
    assert [event["count"] for event in told] == [1]
    reasons = [event["reason"] for event in events(busy, namespace, "exp")]
    assert {"Preparing", "Starting", "Training", "Evaluating", "Succeeded"} <= set(reasons)


def test_a_failure_is_told_with_the_log_and_tried_again(busy: Cluster, namespace: str) -> None:
    busy.set_pod_log("loading\nHF_TOKEN=hf_abcdefghijklmnop\nKeyError: 'answer'")
    fails = pod(None, **{"test.unisd.dev/fail-after": "0.2s", "test.unisd.dev/exit-code": "1"})
    busy.apply(manifest("exp", trainer=fails, backoffLimit=1), namespace=namespace)
    ended = ends(busy, namespace, "exp", "Failed", within=240)
    (arm,) = ended["components"]
    assert (arm["phase"], arm["attempt"], arm["failedAttempts"]) == ("Failed", 2, 2)
    assert arm["failure"]["exitCode"] == 1
    assert "KeyError: 'answer'" in arm["failure"]["logTail"]
    assert "hf_abcdefghijklmnop" not in json.dumps(ended)

    def warned() -> set[str]:
        return {event["reason"] for event in events(busy, namespace, "exp") if event["type"] == "Warning"}

    eventually(lambda: warned() >= {"Failed", arm["failure"]["reason"]})
    eventually(lambda: not [p for p in children(busy, namespace, "pods") if p["status"]["phase"] == "Running"])


def test_a_component_that_the_api_server_refuses_does_not_hold_up_the_others(busy: Cluster, namespace: str) -> None:
    """A quota on Jobs' Deployments is refused at the apply itself, not later by a controller."""
    spec: dict[str, Any] = {"hard": {"count/deployments.apps": "0"}}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": spec}
    busy.apply(quota, namespace=namespace)
    run = manifest("exp", components=1, parallelism=2)
    run["spec"]["components"] = [{"name": "star", "preset": "sdft"}, {"name": "sft", "preset": "sft"}]
    busy.apply(run, namespace=namespace)

    def looks_as_it_should() -> bool:
        arms = {arm["component"]: arm for arm in status(busy, namespace, "exp").get("components", [])}
        assert arms, "no components yet"
        assert "exceeded quota" in json.dumps(arms["star"].get("waiting")), arms["star"]
        assert arms["star"]["waiting"]["reason"] == "QuotaExceeded"
        return bool(arms["sft"].get("trainedTime"))

    eventually(looks_as_it_should)
    busy.kubectl("delete", "resourcequota", "none", "-n", namespace)
    ends(busy, namespace, "exp", within=240)


def test_a_claim_that_is_not_the_runs_stalls_it_and_is_left_alone(busy: Cluster, namespace: str) -> None:
    requests = {"resources": {"requests": {"storage": "1Gi"}}, "accessModes": ["ReadWriteOnce"]}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "exp"}, "spec": requests}
    busy.apply(claim, namespace=namespace)
    busy.apply(manifest("exp"), namespace=namespace)

    def stalled() -> bool:
        conditions = status(busy, namespace, "exp").get("conditions", [])
        return any(
            c["type"] == "Stalled" and c["status"] == "True" and "existingClaim" in c["message"] for c in conditions
        )

    eventually(stalled)
    found = busy.json("get", "pvc", "exp", "-n", namespace)["metadata"]
    assert "labels" not in found
    assert "ownerReferences" not in found
    assert not children(busy, namespace, "pods,jobs")


def test_a_job_whose_pods_are_not_let_in_says_why(busy: Cluster, namespace: str) -> None:
    spec: dict[str, Any] = {"hard": {"pods": "0"}}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": spec}
    busy.apply(quota, namespace=namespace)
    busy.apply(manifest("exp"), namespace=namespace)

    def waits() -> bool:
        stages = status(busy, namespace, "exp").get("stages", [])
        return bool(stages) and stages[0].get("waiting", {}).get("reason") == "QuotaExceeded"

    eventually(waits)


def test_the_probe_answers(operator: Operator) -> None:
    def answers() -> bool:
        with urllib.request.urlopen(operator.health, timeout=30) as answer:
            return answer.status == 200 and "alive" in json.load(answer)

    eventually(answers)
