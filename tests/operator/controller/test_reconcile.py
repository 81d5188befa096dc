"""One turn of a run, against an API server that only keeps objects."""

import asyncio
import copy
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from unisd_operator.cluster.client import ConflictError, NotFoundError, RefusedError, UnavailableError
from unisd_operator.cluster.store import Store
from unisd_operator.metrics import Metrics
from unisd_operator.reconcile import World, reconcile
from unisd_operator.settings import Settings

KEY = ("research", "exp")
SPEC = {
    "model": {"name": "Qwen/Qwen2.5-7B-Instruct"},
    "task": {"name": "gsm8k"},
    "components": [{"name": "sft", "preset": "sft"}],
}


class Server:
    """Keeps objects by kind and name; remembers what was asked of it."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.calls: list[tuple[str, str, str]] = []
        self.refuse: dict[str, Exception] = {}
        self.events: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.version = 100

    def verbs(self, *kinds: str) -> list[tuple[str, str, str]]:
        return [call for call in self.calls if not kinds or call[1] in kinds]

    def put(self, body: Any) -> dict[str, Any]:
        self.version += 1
        kind, name = body["kind"], body["metadata"]["name"]
        known = self.objects.get((kind, name), {}).get("metadata", {})
        born = {"uid": f"{kind}-{name}", "creationTimestamp": "2026-01-01T00:00:00Z", **known}
        metadata = {**born, **body["metadata"], "resourceVersion": str(self.version)}
        self.objects[kind, name] = copy.deepcopy({**body, "metadata": metadata})
        return copy.deepcopy(self.objects[kind, name])

    def _note(self, verb: str, kind: str, name: str) -> None:
        self.calls.append((verb, kind, name))
        if kind in self.refuse:
            raise self.refuse[kind]

    async def apply(self, namespace: str, body: Any) -> Any:
        self._note("apply", body["kind"], body["metadata"]["name"])
        return self.put(body)

    async def create(self, kind: str, namespace: str, body: Any) -> Any:
        self._note("create", kind, body["metadata"]["name"])
        if (kind, body["metadata"]["name"]) in self.objects:
            raise ConflictError("exists")
        return self.put({"kind": kind, **body})

    async def get(self, kind: str, namespace: str, name: str) -> Any:
        if (kind, name) not in self.objects:
            raise NotFoundError(name)
        return self.objects[kind, name]

    async def list(self, kind: str, namespace: str, **query: str) -> list[Any]:
        self.asked.append(query["fieldSelector"])
        return self.events

    async def merge(self, kind: str, namespace: str, name: str, patch: Any, subresource: str = "") -> Any:
        self._note("merge", kind, name)
        known = self.objects[kind, name]
        if kind == "Event":
            return self.put({**known, **patch})
        if patch["metadata"]["resourceVersion"] != known["metadata"]["resourceVersion"]:
            raise ConflictError("changed")
        return self.put({**known, "status": {k: v for k, v in patch["status"].items() if v is not None}})

    async def delete(
        self, kind: str, namespace: str, name: str, uid: str | None, grace_seconds: int | None = None
    ) -> None:
        self._note("delete", kind, name)

    async def log(self, namespace: str, pod: str, container: str, previous: bool) -> str:
        self.calls.append(("log", "Pod", pod))
        return "the last line\n"


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def world(server: Server) -> World:
    """A run that was just created, and nothing else."""
    store = Store("nvidia.com/gpu")
    metadata = {"name": "exp", "namespace": "research", "uid": "run-uid", "generation": 1}
    run = {"apiVersion": "unisd.dev/v1alpha1", "kind": "SelfDistillRun", "metadata": metadata, "spec": SPEC}
    store.put_run(server.put(run))
    return World(server, store, Settings(), b"key", Metrics("0", lambda: True))  # type: ignore[arg-type]


def turn(world: World) -> float | None:
    return asyncio.run(reconcile(world, KEY))


def job_pod(server: Server, role: str, **status: Any) -> dict[str, Any]:
    """A pod of a role's Job, as the Job's controller would make it."""
    (job,) = [body for (kind, _), body in server.objects.items() if kind == "Job" and body["metadata"]["labels"]["unisd.dev/role"] == role]  # fmt: skip
    template = job["spec"]["template"]
    metadata = {**template["metadata"], "namespace": "research", "name": f"{job['metadata']['name']}-x"}
    spec = {**template["spec"], "nodeName": "node-a"}
    return server.put({"kind": "Pod", "metadata": metadata, "spec": spec, "status": status})


def test_the_status_is_written_before_the_first_child(world: World, server: Server) -> None:
    turn(world)
    assert server.calls[0] == ("merge", "SelfDistillRun", "exp")
    assert ("create", "Job", "exp-prepare-1") in server.calls
    assert server.calls.index(("create", "PersistentVolumeClaim", "exp")) == 1
    assert server.objects["SelfDistillRun", "exp"]["status"]["phase"] == "Preparing"


def test_a_frozen_child_is_never_taken_over_from_somebody_else(world: World, server: Server) -> None:
    server.refuse["Job"] = ConflictError("jobs exp-prepare-1 already exists")
    turn(world)
    assert "already exists" in world.store.notes("run-uid").refused["prepare"]
    assert ("apply", "Job", "exp-prepare-1") not in server.calls


def on_existing_claim(world: World, server: Server) -> None:
    """Has the run name a claim."""
    (run,) = [body for (kind, _), body in server.objects.items() if kind == "SelfDistillRun"]
    world.store.put_run(server.put({**run, "spec": {**SPEC, "storage": {"existingClaim": "mine"}}}))


def test_an_existing_claim_is_asked_once_what_it_may_be_mounted_by(world: World, server: Server) -> None:
    on_existing_claim(world, server)
    spec = {"accessModes": ["ReadWriteOnce"]}
    server.put({"kind": "PersistentVolumeClaim", "metadata": {"name": "mine"}, "spec": spec})
    turn(world)
    template = server.objects["Job", "exp-prepare-1"]["spec"]["template"]
    assert "podAffinity" in template["spec"]["affinity"]
    del server.objects["PersistentVolumeClaim", "mine"]
    turn(world)
    assert world.store.notes("run-uid").claim_modes == ("ReadWriteOnce",)


def test_an_existing_claim_that_is_not_there_yet_is_asked_again(world: World, server: Server) -> None:
    on_existing_claim(world, server)
    turn(world)
    assert "affinity" not in server.objects["Job", "exp-prepare-1"]["spec"]["template"]["spec"]
    spec = {"accessModes": ["ReadWriteMany", "ReadWriteOnce"]}
    server.put({"kind": "PersistentVolumeClaim", "metadata": {"name": "mine"}, "spec": spec})
    turn(world)
    assert world.store.notes("run-uid").claim_modes == ("ReadWriteMany", "ReadWriteOnce")


def test_a_second_turn_writes_nothing(world: World, server: Server) -> None:
    turn(world)
    server.calls.clear()
    turn(world)
    assert server.calls == []


def test_a_status_that_was_changed_by_another_ends_the_turn_before_it_acts(world: World, server: Server) -> None:
    server.put(server.objects["SelfDistillRun", "exp"])
    with pytest.raises(ConflictError):
        turn(world)
    assert server.verbs("Job", "PersistentVolumeClaim") == []


def test_what_is_refused_is_noted_for_its_work_and_tried_again_later(world: World, server: Server) -> None:
    server.refuse["ConfigMap"] = RefusedError("exceeded quota: none")
    assert turn(world) == pytest.approx(0.2)
    assert server.verbs("Job") == []
    assert "exceeded quota" in world.store.notes("run-uid").refused["prepare"]
    wait = turn(world)
    assert wait is not None
    assert 1 < wait <= 10
    assert "exceeded quota" in str(server.objects["SelfDistillRun", "exp"]["status"]["stages"][0]["waiting"])
    server.refuse.clear()
    turn(world)
    assert world.store.notes("run-uid").refused == {}
    assert server.verbs("Job")


def test_a_claim_of_somebody_else_is_left_alone_and_nothing_is_made(world: World, server: Server) -> None:
    server.put({"kind": "PersistentVolumeClaim", "metadata": {"name": "exp"}, "spec": {}})
    turn(world)
    turn(world)
    assert server.verbs("Job", "ConfigMap") == []
    assert server.objects["SelfDistillRun", "exp"]["status"]["reason"] == "ForeignClaim"
    del server.objects["PersistentVolumeClaim", "exp"]
    turn(world)
    turn(world)
    assert server.verbs("Job")


def test_a_claim_that_was_made_just_before_the_operator_was_killed_is_its_own(world: World, server: Server) -> None:
    turn(world)
    fresh = replace(world, store=Store("nvidia.com/gpu"))
    fresh.store.put_run(server.objects["SelfDistillRun", "exp"])
    turn(fresh)
    assert not fresh.store.notes("run-uid").foreign_claim
    assert [child.kind for child in fresh.store.children("run-uid")].count("PersistentVolumeClaim") == 1


def test_the_log_of_a_failed_container_is_in_status_before_its_job_goes(world: World, server: Server) -> None:
    turn(world)
    ended = {"exitCode": 1, "reason": "Error", "finishedAt": "2026-01-01T00:01:00Z"}
    containers = [{"name": "prepare", "state": {"terminated": ended}, "restartCount": 0}]
    world.store.put("Pod", job_pod(server, "prepare", phase="Failed", containerStatuses=containers))
    server.calls.clear()
    turn(world)
    kinds = [(verb, kind) for verb, kind, _ in server.calls]
    assert kinds.index(("log", "Pod")) < kinds.index(("merge", "SelfDistillRun")) < kinds.index(("delete", "Job"))
    stage = server.objects["SelfDistillRun", "exp"]["status"]["stages"][0]
    assert (stage["failure"]["logTail"], stage["attempt"]) == ("the last line\n", 2)


def test_a_log_is_read_once(world: World, server: Server) -> None:
    turn(world)
    ended = {"exitCode": 1, "reason": "Error", "finishedAt": "2026-01-01T00:01:00Z"}
    containers = [{"name": "prepare", "state": {"terminated": ended}, "restartCount": 0}]
    world.store.put("Pod", job_pod(server, "prepare", phase="Failed", containerStatuses=containers))
    turn(world)
    turn(world)
    assert len([call for call in server.calls if call[0] == "log"]) == 1


def test_figures_alone_are_written_once_in_five_seconds(world: World, server: Server) -> None:
    """What a pod waits for is a decision's cause and shown at once; that its words change is not."""
    turn(world)

    def unplaced(message: str) -> None:
        told = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        pod = job_pod(server, "prepare", phase="Pending", conditions=[told])
        del pod["spec"]["nodeName"]
        world.store.put("Pod", pod)

    unplaced("0/1 nodes are available")
    turn(world)
    assert server.objects["SelfDistillRun", "exp"]["status"]["reason"] == "Unschedulable"
    unplaced("0/2 nodes are available")
    server.calls.clear()
    world.store.notes("run-uid").written += 3600  # as if no time had passed, however slow the machine
    wait = turn(world)
    assert wait is not None
    assert 3000 < wait <= 3605
    assert server.calls == []
    world.store.notes("run-uid").written = time.monotonic() - 6
    turn(world)
    assert "0/2 nodes" in str(server.objects["SelfDistillRun", "exp"]["status"])


def test_a_run_that_is_gone_or_going_is_left_alone(world: World, server: Server) -> None:
    body = server.objects["SelfDistillRun", "exp"]
    world.store.put_run(
        server.put({**body, "metadata": {**body["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}})
    )
    assert turn(world) is None
    world.store.remove_run(body)
    assert turn(world) is None
    assert server.calls == []


def test_a_run_that_cannot_be_planned_says_so_and_gets_nothing(world: World, server: Server) -> None:
    body = server.objects["SelfDistillRun", "exp"]
    spec = {**SPEC, "components": [{"name": "sft", "preset": "sft"}, {"name": "sft", "preset": "sft"}]}
    world.store.put_run(server.put({**body, "spec": spec}))
    turn(world)
    status = server.objects["SelfDistillRun", "exp"]["status"]
    assert (status["phase"], status["reason"]) == ("Invalid", "InvalidSpec")
    assert server.verbs("Job", "PersistentVolumeClaim") == []


def test_what_is_said_of_a_pod_that_does_not_start_is_asked_for_now_and_then(world: World, server: Server) -> None:
    turn(world)
    scheduled = [{"type": "PodScheduled", "status": "True"}]
    pod = job_pod(server, "prepare", phase="Pending", conditions=scheduled)
    server.events = [{"message": "Pulling", "lastTimestamp": "2"}, {"message": "first", "lastTimestamp": "1"}]
    world.store.put("Pod", pod)
    server.asked.clear()
    turn(world)
    turn(world)
    about = f"involvedObject.uid={pod['metadata']['uid']}"
    assert server.asked == [f"{about},reason!=FailedScheduling,reason!=Scheduled"]
    assert world.store.notes("run-uid").events == {pod["metadata"]["uid"]: "Pulling"}


def test_a_pod_that_ends_is_looked_at_when_it_would_be_lost(world: World, server: Server) -> None:
    world = replace(world, settings=Settings(resync_seconds=36000))
    turn(world)
    pod = job_pod(server, "prepare", phase="Running")
    deleted = (datetime.now(UTC) + timedelta(seconds=3600)).isoformat(timespec="seconds")
    pod["metadata"] |= {"deletionTimestamp": deleted, "deletionGracePeriodSeconds": 3605}
    world.store.put("Pod", pod)
    wait = turn(world)
    assert wait is not None
    assert 3600 < wait <= 3630, "what is left of its grace, and 30 s"


def test_an_api_server_that_is_away_ends_the_turn(world: World, server: Server) -> None:
    server.refuse["Job"] = UnavailableError("no answer")
    with pytest.raises(UnavailableError):
        turn(world)
    server.refuse.clear()
    turn(world)
    assert server.verbs("Job")[-1] == ("create", "Job", "exp-prepare-1")
