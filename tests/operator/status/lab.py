"""A run, the children that a test lets the operator see, and the clock."""

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from unisd_operator.api.resource import RunResource, read_resource
from unisd_operator.api.status import Component, Condition, Stage, Status
from unisd_operator.observed import Answer, ChildState, ContainerState, Observed, PodState
from unisd_operator.settings import Settings
from unisd_operator.status import derive_status, due

START = datetime(2026, 1, 1, tzinfo=UTC)
SCORES = json.dumps({"result": {"evaluations": [{"task": "cos_e", "metric": "accuracy", "score": 0.75}]}})


def manifest(spec: dict[str, Any]) -> dict[str, Any]:
    """A run as the API server sends it, without status."""
    default = {"model": {"name": "a/b"}, "task": {"name": "cos_e"}, "components": [{"name": "c", "preset": "ema"}]}
    return {
        "apiVersion": "unisd.dev/v1alpha1",
        "kind": "SelfDistillRun",
        "metadata": {
            "name": "demo",
            "namespace": "lab",
            "uid": "0000",
            "generation": 1,
            "resourceVersion": "1",
            "creationTimestamp": START.isoformat(),
        },
        "spec": {**default, **spec},
    }


@dataclass
class Lab:
    """One run under the eyes of an operator.

    Children are added with `job`, `pod`, `deployment` and `workload` (one of the same kind, role, arm and attempt takes
    the place of the one before); `look` derives the status and checks that a second look changes nothing.
    """

    run: RunResource
    settings: Settings = field(default_factory=Settings)
    observed: Observed = field(default_factory=Observed)
    seconds: float = 0.0

    @property
    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds)

    @property
    def status(self) -> Status:
        return self.run.status

    def arm(self, name: str = "c-1") -> Component:
        return next(arm for arm in self.status.components if arm.name == name)

    def stage(self, name: str = "prepare") -> Stage:
        return next(stage for stage in self.status.stages if stage.name == name)

    def condition(self, name: str) -> Condition:
        return next(condition for condition in self.status.conditions if condition.type == name)

    def look(self, after: float = 0.0) -> Status:
        self.seconds += after
        status = derive_status(self.run, self.observed, self.settings, self.now)
        self.run = replace(self.run, status=Status.model_validate_json(status.model_dump_json()))
        assert self.run.status == status, "what the API server keeps is what was derived"
        again = derive_status(self.run, self.observed, self.settings, self.now)
        assert again == status, "a second look changes nothing"
        return status

    def due(self) -> float | None:
        """Seconds from now until the status changes by itself."""
        time = due(self.run, self.status, self.now)
        return None if time is None else (time - self.now).total_seconds()

    def edit(self, **spec: Any) -> None:
        """What a user changes in a living run."""
        assert self.run.run is not None
        changed = read_resource(manifest({**self.run.run.spec.model_dump(mode="json", exclude_unset=True), **spec}))
        assert not changed.problems
        self.run = replace(changed, status=self.status, generation=self.run.generation + 1)

    # -- children

    def job(self, role: Any, arm: str | None = None, attempt: int = 1, **state: Any) -> None:
        self._child(ChildState("Job", f"{role}-{arm}-{attempt}", "u", role, arm, attempt, "h", self.now, **state))

    def deployment(self, arm: str | None = "c-1", attempt: int = 1, **state: Any) -> None:
        state = {"replicas": 1, **state}
        name = f"rollout-{arm}-{attempt}"
        self._child(ChildState("Deployment", name, "u", "rollout", arm, attempt, "h", self.now, **state))

    def workload(self, arm: str = "c-1", attempt: int = 1, message: str = "", **conditions: str) -> None:
        name = f"queue-{arm}-{attempt}"
        self._child(
            ChildState(
                "Workload",
                name,
                "u",
                "queue",
                arm,
                attempt,
                "h",
                self.now,
                conditions=conditions,
                message=message,
            )
        )

    def claim(self, phase: str) -> None:
        state = {"message": phase, "conditions": {"Bound": str(phase == "Bound")}}
        self._child(
            ChildState("PersistentVolumeClaim", "demo", "u", "storage", None, 1, "h", self.now, **state)  # type: ignore[arg-type]
        )

    def pod(
        self, role: Any, arm: str | None = None, attempt: int = 1, index: int = 0, container: Any = None, **state: Any
    ) -> str:
        """A pod, running unless told otherwise; returns its name."""
        name = f"{role}-{arm}-{attempt}-{index}"
        state = {"phase": "Running", "node": "n1", "scheduled": True, "started": self.now, **state}
        running = state["phase"] == "Running"
        fields = {"running": running, **({"running": False} if container else {}), **(container or {})}
        one = ContainerState("main", **fields)
        made = PodState(
            name, f"u-{name}", role, arm, attempt, created=self.now, index=index, containers=(one,), **state
        )
        pods = [pod for pod in self.observed.pods if pod.name != name]
        self.observed = replace(self.observed, pods=(*pods, made))
        return name

    def log(self, pod: str, text: str) -> None:
        self.observed = replace(self.observed, log_tails={**self.observed.log_tails, f"{pod}/main": text})

    def answer(self, name: str = "c-1", error: str = "", **values: Any) -> None:
        answer = Answer(self.now, None if error else values, error)
        self.observed = replace(self.observed, answers={**self.observed.answers, name: answer})

    def remove(self, arm: str | None = "c-1", *roles: str) -> None:
        """All children of an arm go, or those of some roles."""
        gone = {id(x) for x in (*self.observed.children, *self.observed.pods) if x.arm == arm}
        gone = {id(x) for x in (*self.observed.children, *self.observed.pods) if id(x) in gone and _is(x, roles)}
        self.observed = replace(
            self.observed,
            children=tuple(child for child in self.observed.children if id(child) not in gone),
            pods=tuple(pod for pod in self.observed.pods if id(pod) not in gone),
        )

    def refuse(self, name: str, message: str) -> None:
        self.observed = replace(self.observed, refused={**self.observed.refused, name: message})

    # -- what runs usually do

    def prepared(self) -> "Lab":
        """The run once its preparation has succeeded."""
        self.look()
        self.job("prepare", succeeded=True)
        self.pod("prepare", phase="Succeeded", container={"exit_code": 0, "ended": self.now})
        self.look(10)
        return self

    def start(self, arm: str = "c-1", attempt: int = 1) -> None:
        """All objects and pods of a training that runs."""
        self.job("train", arm, attempt)
        self.deployment(arm, attempt, ready=1)
        self.pod("train", arm, attempt, gpus=1)
        self.pod("rollout", arm, attempt, gpus=1)

    def training(self, arm: str = "c-1") -> "Lab":
        """The run once a component trains."""
        self.prepared()
        self.start(arm)
        self.look(10)
        return self

    def evaluating(self, arm: str = "c-1") -> "Lab":
        """The run once a component is evaluated."""
        self.training(arm)
        self.end("train", arm, "{}")
        self.look(10)
        self.job("evaluate", arm)
        self.pod("evaluate", arm)
        self.look(10)
        return self

    def end(self, role: str, arm: str | None, message: str, attempt: int = 1) -> None:
        """A Job and its pod end well."""
        self.job(role, arm, attempt, succeeded=True)
        done = {"exit_code": 0, "ended": self.now, "terminated_message": message}
        self.pod(role, arm, attempt, phase="Succeeded", container=done)

    def _child(self, child: ChildState) -> None:
        kept = [c for c in self.observed.children if (c.kind, c.name) != (child.kind, child.name)]
        self.observed = replace(self.observed, children=(*kept, child))


def _is(child: ChildState | PodState, roles: tuple[str, ...]) -> bool:
    return not roles or child.role in roles


def new(settings: Settings | None = None, **spec: Any) -> Lab:
    """A run that nothing was done for yet."""
    run = read_resource(manifest(spec))
    assert not run.problems, run.problems
    return Lab(run, settings or Settings())
