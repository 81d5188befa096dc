"""What a real API server, scheduler and controllers show of trouble, as a user reads it in status.

Pods run on simulated nodes; where no controller can be made to show a state, it is written into the pod's status.
"""

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.waiting import eventually
from tests.operator.controller.harness import Operator, ends, install, manifest, pod, status

pytestmark = pytest.mark.cluster

Check = Callable[[dict[str, Any]], bool]


@pytest.fixture(scope="module")
def busy() -> Iterator[Cluster]:
    """A cluster with an operator that is quick to try again."""
    with Cluster() as running:
        install(running)
        running.add_volumes(40)
        running.add_fake_node("small", gpus=1, labels={"pool": "small"})
        running.add_fake_node("three", gpus=3, labels={"pool": "three"})
        operator = Operator(running, retrySeconds=1.0, statusSeconds=1.0, leaderElection=False)
        eventually(operator.leads)
        yield running


@pytest.fixture
def namespace(busy: Cluster) -> Iterator[str]:
    """A namespace that enforces Pod Security `restricted`."""
    name = busy.create_namespace()
    yield name
    busy.kubectl("delete", "sdr", "--all", "-n", name)


def component(cluster: Cluster, namespace: str, holds: Check) -> dict[str, Any]:
    """The first component of run `exp` once something holds of it."""

    def look() -> dict[str, Any]:
        found = status(cluster, namespace, "exp").get("components") or [{}]
        assert holds(found[0]), json.dumps(found[0])[-2500:]
        return dict(found[0])

    return eventually(look, every=0.3)


def failure(cluster: Cluster, namespace: str) -> dict[str, Any]:
    """The failure of the first component of run `exp`."""
    return dict(component(cluster, namespace, lambda arm: "failure" in arm)["failure"])


def waiting(cluster: Cluster, namespace: str, reason: str) -> dict[str, Any]:
    """The first component of run `exp` once it waits with a reason."""
    return component(cluster, namespace, lambda arm: arm.get("waiting", {}).get("reason") == reason)


def trains(cluster: Cluster, namespace: str) -> None:
    component(cluster, namespace, lambda arm: arm.get("phase") == "Training")


def pods(cluster: Cluster, namespace: str, role: str) -> list[str]:
    found = cluster.json("get", "pods", "-n", namespace, "-l", f"unisd.dev/role={role}")["items"]
    return [item["metadata"]["name"] for item in found]


def fails(code: str, reason: str = "Error", message: str = "") -> dict[str, Any]:
    """A pod block whose pods end with a code."""
    ending = {"test.unisd.dev/fail-after": "0.2s", "test.unisd.dev/exit-code": code, "test.unisd.dev/reason": reason}
    return pod(None, **ending, **({"test.unisd.dev/message": message} if message else {}))


def waits(reason: str) -> dict[str, Any]:
    """A pod block whose containers never start."""
    return pod(None, **{"test.unisd.dev/waiting": reason, "test.unisd.dev/message": f"about {reason}"})


TOLD = json.dumps({"failure": {"reason": "PolicyCollapsed", "message": "repetition 0.9 is above guard.repetition"}})


@pytest.mark.parametrize(
    ("block", "seen", "reason", "phase"),
    [
        ("trainer", waits("ImagePullBackOff"), "ImagePullBackOff", "Failed"),
        ("trainer", waits("CreateContainerConfigError"), "ConfigError", "Failed"),
        ("trainer", fails("137", "OOMKilled"), "OOMKilled", "Failed"),
        ("trainer", fails("65"), "BadInput", "Failed"),
        ("trainer", fails("68"), "CheckpointCorrupt", "Failed"),
        ("trainer", fails("66", message=TOLD), "PolicyCollapsed", "Failed"),
        ("rollout", waits("CrashLoopBackOff"), "RolloutCrash", "Failed"),
        ("evaluation", fails("1"), "NonZeroExit", "Failed"),
    ],
)
def test_failures(busy: Cluster, namespace: str, block: str, seen: dict[str, Any], reason: str, phase: str) -> None:
    busy.apply(manifest("exp", backoffLimit=0, **{block: seen}), namespace=namespace)
    ended = ends(busy, namespace, "exp", phase)
    told = ended["components"][0]["failure"]
    assert (told["reason"], ended["reason"]) == (reason, reason)
    assert told["node"] in ("node-a", "small", "three")
    assert told["message"]
    assert told["pod"]
    stalled = next(c for c in ended["conditions"] if c["type"] == "Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", reason)
    eventually(lambda: reason in heard(busy, namespace))
    listed = busy.kubectl("get", "sdr", "exp", "-n", namespace)
    assert reason in listed


def heard(cluster: Cluster, namespace: str) -> set[str]:
    """Reasons of the Events on runs."""
    found = cluster.json("get", "events", "-n", namespace, "--field-selector", "involvedObject.kind=SelfDistillRun")
    return {event["reason"] for event in found["items"]}


def test_a_preparation_that_fails_is_told_as_the_runs_reason(busy: Cluster, namespace: str) -> None:
    busy.apply(manifest("exp", preparation=fails("65")), namespace=namespace)
    ended = ends(busy, namespace, "exp", "Failed")
    assert (ended["reason"], ended["stages"][0]["failure"]["exitCode"]) == ("BadInput", 65)


def disrupted(reason: str) -> dict[str, Any]:
    """A pod's status as it is before the pod is deleted; of today, since the disruption controller takes back old ones."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": reason, "lastTransitionTime": now}]}


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (lambda: disrupted("DeletionByTaintManager"), "NodeLost"),
        (lambda: disrupted("EvictionByEvictionAPI"), "Evicted"),
        (
            lambda: {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."},
            "Evicted",
        ),
        (
            lambda: {
                "phase": "Failed",
                "reason": "Evicted",
                "message": 'Usage of EmptyDir volume "scratch" exceeds 1Gi',
            },
            "StorageFull",
        ),
    ],
)
def test_what_the_cluster_does_to_a_pod(busy: Cluster, namespace: str, state: Callable[[], Any], reason: str) -> None:
    busy.apply(manifest("exp", trains=None), namespace=namespace)
    trains(busy, namespace)
    (name,) = pods(busy, namespace, "train")
    busy.kubectl("patch", "pod", name, "-n", namespace, "--subresource=status", "-p", json.dumps({"status": state()}))
    told = failure(busy, namespace)
    assert (told["reason"], told["pod"], told["attempt"]) == (reason, name, 1)
    again = component(busy, namespace, lambda arm: arm["phase"] == "Training")
    assert (again["attempt"], again["failedAttempts"]) == (2, int(reason == "StorageFull"))


def test_a_pod_that_is_evicted_by_the_api_starts_again_without_counting(busy: Cluster, namespace: str) -> None:
    busy.apply(manifest("exp", trains=None), namespace=namespace)
    trains(busy, namespace)
    (name,) = pods(busy, namespace, "train")
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace}}
    path = f"/api/v1/namespaces/{namespace}/pods/{name}/eviction"
    busy.kubectl("create", "--raw", path, "-f", "-", input=json.dumps(eviction))
    assert failure(busy, namespace)["reason"] == "Evicted"
    again = component(busy, namespace, lambda arm: arm["phase"] == "Training" and arm["attempt"] == 2)
    assert again["failedAttempts"] == 0


def test_a_pod_that_makes_room_for_another(busy: Cluster, namespace: str) -> None:
    priority = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "urgent"}}
    busy.apply(priority | {"value": 1000})
    trainer = pod(None)
    trainer["pod"]["nodeSelector"] = {"pool": "small"}
    run = manifest("exp", trainer=trainer)
    run["spec"]["components"] = [{"name": "sft", "preset": "sft"}]
    busy.apply(run, namespace=namespace)
    trains(busy, namespace)
    busy.apply(urgent_pod(), namespace=namespace)
    told = failure(busy, namespace)
    assert told["reason"] in ("Preempted", "Evicted"), "the pod may be gone before its condition was seen"
    found = waiting(busy, namespace, "Unschedulable")
    assert (found["attempt"], found["failedAttempts"]) == (2, 0)
    busy.kubectl("delete", "pod", "urgent", "-n", namespace)
    trains(busy, namespace)


def urgent_pod() -> dict[str, Any]:
    """A pod that takes the GPU of the small node from whoever has it."""
    security = {
        "allowPrivilegeEscalation": False,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    limits = {"limits": {"nvidia.com/gpu": "1"}}
    container = {"name": "c", "image": "i", "securityContext": security, "resources": limits}
    spec = {"priorityClassName": "urgent", "nodeSelector": {"pool": "small"}, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "urgent"}, "spec": spec}


def test_a_job_that_breaks_the_rules_of_its_namespace_waits_as_forbidden(busy: Cluster, namespace: str) -> None:
    trainer = pod(None)
    trainer["pod"]["volumes"] = [{"name": "host", "hostPath": {"path": "/"}}]
    busy.apply(manifest("exp", trainer=trainer), namespace=namespace)
    found = waiting(busy, namespace, "Forbidden")
    assert "violates PodSecurity" in found["waiting"]["message"]


def test_an_object_that_the_api_server_refuses_fails_its_component_with_its_words(
    busy: Cluster, namespace: str
) -> None:
    trainer = pod(None)
    trainer["pod"]["tolerations"] = [{"key": "a", "operator": "Sometimes"}]
    busy.apply(manifest("exp", trainer=trainer), namespace=namespace)
    ended = ends(busy, namespace, "exp", "Failed")
    told = ended["components"][0]["failure"]
    assert told["reason"] == "InvalidSpec"
    assert "Sometimes" in told["message"]


def test_pods_without_a_place_are_given_back_with_the_schedulers_words(busy: Cluster, namespace: str) -> None:
    trainer = pod(None)
    trainer["pod"]["nodeSelector"] = {"pool": "nowhere"}
    busy.apply(manifest("exp", trainer=trainer, preRunningDeadlineSeconds=5), namespace=namespace)
    found = waiting(busy, namespace, "Unschedulable")
    assert "didn't match Pod's node affinity/selector" in found["waiting"]["message"]
    released = component(busy, namespace, lambda arm: arm["admissionAttempts"] >= 1)
    assert released["failedAttempts"] == 0
    assert "failure" not in released


def test_a_claim_that_is_not_bound_is_told(busy: Cluster, namespace: str) -> None:
    storage = {"policy": "Delete", "storageClassName": "nobody-provisions"}
    busy.apply(manifest("exp", storage=storage), namespace=namespace)

    def look() -> bool:
        (stage, *_) = status(busy, namespace, "exp").get("stages") or [{}]
        assert stage.get("waiting", {}).get("reason") == "VolumeNotReady", stage
        return True

    eventually(look)


def test_a_component_may_not_take_longer_than_its_deadline(busy: Cluster, namespace: str) -> None:
    busy.apply(manifest("exp", trains=None, activeDeadlineSeconds=3), namespace=namespace)
    ended = ends(busy, namespace, "exp", "Failed")
    assert ended["reason"] == "DeadlineExceeded"


class Trainer(BaseHTTPRequestHandler):
    """Answers `/progress` with one more step each time, until it stands still."""

    step, moves = 0, 1

    def do_GET(self) -> None:
        Trainer.step += Trainer.moves
        versions = {"trainer": 9, "rollout": 1}
        text = json.dumps(
            {"step": Trainer.step, "totalSteps": 1000, "progressPercentage": 20, "policyVersion": versions}
        )
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_arguments: Any) -> None:
        """Stays quiet."""


@pytest.fixture
def trainer_address() -> Iterator[str]:
    """Where the trainer answers."""
    address = "127.0.0.99"
    with ThreadingHTTPServer((address, 9400), Trainer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield address
        server.shutdown()


def test_a_step_that_stands_still_is_no_progress_and_servers_that_lag_are_told(
    busy: Cluster, namespace: str, trainer_address: str
) -> None:
    trainer = pod(None, **{"test.unisd.dev/pod-ip": trainer_address})
    run = manifest("exp", trainer=trainer, progressDeadlineSeconds=8, backoffLimit=0)
    busy.apply(run, namespace=namespace)
    found = component(busy, namespace, lambda arm: arm.get("progress", {}).get("step", 0) >= 2)
    assert found["policyVersion"] == {"trainer": 9, "rollout": 1}

    def stale() -> bool:
        conditions = status(busy, namespace, "exp")["conditions"]
        assert any(c["type"] == "WeightsStale" and c["status"] == "True" for c in conditions), conditions
        return True

    eventually(stale)
    Trainer.moves = 0
    assert ends(busy, namespace, "exp", "Failed")["reason"] == "NoProgress"


def test_no_answer_is_told_and_stops_nothing(busy: Cluster, namespace: str) -> None:
    trainer = pod(None, **{"test.unisd.dev/pod-ip": "127.0.0.98"})
    busy.apply(manifest("exp", trainer=trainer, progressDeadlineSeconds=2), namespace=namespace)
    trains(busy, namespace)

    def unavailable() -> bool:
        conditions = status(busy, namespace, "exp")["conditions"]
        told = next(c for c in conditions if c["type"] == "ProgressUnavailable")
        assert told["status"] == "True", told
        assert "127.0.0.98:9400" in told["message"]
        return True

    eventually(unavailable)
    component(busy, namespace, lambda arm: arm["phase"] == "Training" and "failure" not in arm)


def test_a_suspended_run_leaves_no_pod_and_goes_on_under_its_attempt(busy: Cluster, namespace: str) -> None:
    busy.apply(manifest("exp", trains=None), namespace=namespace)
    trains(busy, namespace)
    busy.kubectl("patch", "sdr", "exp", "-n", namespace, "--type=merge", "-p", '{"spec": {"suspend": true}}')
    ends(busy, namespace, "exp", "Suspended")
    eventually(lambda: not pods(busy, namespace, "train") and not pods(busy, namespace, "rollout"))
    claims = busy.json("get", "pvc", "-n", namespace)["items"]
    assert [claim["metadata"]["name"] for claim in claims] == ["exp"]
    busy.kubectl("patch", "sdr", "exp", "-n", namespace, "--type=merge", "-p", '{"spec": {"suspend": false}}')
    found = component(busy, namespace, lambda arm: arm["phase"] == "Training")
    assert found["attempt"] == 1


def test_a_finished_runs_children_expire(busy: Cluster, namespace: str) -> None:
    busy.apply(manifest("exp", ttlSecondsAfterFinished=1), namespace=namespace)
    ends(busy, namespace, "exp")
    kinds = "jobs,pods,deployments,services,configmaps,networkpolicies,pvc"
    label = "app.kubernetes.io/managed-by=unisd-operator"
    eventually(lambda: not busy.json("get", kinds, "-n", namespace, "-l", label)["items"])
    assert status(busy, namespace, "exp")["phase"] == "Succeeded"


def test_two_runs_of_two_gpus_complete_on_three(busy: Cluster, namespace: str) -> None:
    """Requirement O14: each needs a GPU for its trainer and one for its server."""
    where = {"nodeSelector": {"pool": "three"}}
    for name in ("one", "two"):
        blocks: dict[str, Any] = {"trainer": pod("8s"), "rollout": pod(None), "evaluation": pod(result=SCORES)}
        for block in ("trainer", "rollout"):
            blocks[block]["pod"] |= where
        busy.apply(manifest(name, preRunningDeadlineSeconds=12, **blocks), namespace=namespace)
    ends(busy, namespace, "one", within=240)
    ends(busy, namespace, "two", within=240)


SCORES = {"evaluations": [{"task": "gsm8k", "metric": "accuracy", "score": 0.5}]}
