"""Runs for the tests of planning, and a cluster that is nothing but what plans were applied to it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from unisd_operator.api import names as api
from unisd_operator.api.resource import RunResource
from unisd_operator.api.status import Component, Stage, Status
from unisd_operator.observed import ChildState, Observed, PodState
from unisd_operator.planning import storage
from unisd_operator.planning.images import images
from unisd_operator.planning.metadata import Attempt
from unisd_operator.planning.plan import Plan, plan
from unisd_operator.settings import Settings

from unisd.config.load import parse_cluster_run

EXAMPLES = sorted((Path(__file__).parents[3] / "examples" / "operator").glob("*.yaml"))
MADE = datetime(2026, 1, 1, tzinfo=UTC)
KEY = b"the operator's own key"


def resource(status: Status | None = None, name: str = "demo", uid: str = "1234", **spec: Any) -> RunResource:
    """A run of two components; keyword arguments replace blocks of its spec."""
    default: dict[str, Any] = {
        "model": {"name": "Qwen/Qwen2.5-7B-Instruct"},
        "task": {"name": "cos_e"},
        "components": [{"name": "star", "preset": "unisd_star"}, {"name": "sft", "preset": "sft"}],
    }
    manifest = {
        "apiVersion": "unisd.dev/v1alpha1",
        "kind": "SelfDistillRun",
        "metadata": {"name": name},
        "spec": {**default, **spec},
    }
    run = parse_cluster_run(manifest)
    return RunResource("lab", name, uid, 1, "1", MADE, False, run, (), status or Status())


def attempt(run: RunResource, work: str = "star-1", number: int = 1, settings: Settings | None = None) -> Attempt:
    """An attempt at an arm, or at a shared stage if it is called like one."""
    settings = settings or Settings()
    arm = None if work in ("prepare", "contexts", "report", "push", "grader") else work
    one_node = storage.on_one_node(run, Observed())
    return Attempt(run, settings, work, arm, number, images(run.spec, settings, {}), one_node)


def status(stages: Mapping[str, str] | None = None, **phases: str) -> Status:
    """A status with these phases: `status(star_1="Training")`."""
    components = []
    for key, phase in phases.items():
        component, _, seed = key.rpartition("_")
        name = f"{component.replace('_', '-')}-{seed}"
        components.append(Component(name=name, component=component, seed=int(seed), phase=phase))
    return Status(
        stages=[Stage(name=name, phase=phase) for name, phase in (stages or {}).items()], components=components
    )


def amend(run: RunResource, arm: str, **changes: Any) -> RunResource:
    """The run with one component's status changed."""
    components = [c.model_copy(update=changes) if c.name == arm else c for c in run.status.components]
    return replace(run, status=run.status.model_copy(update={"components": components}))


def move(run: RunResource, to: Status) -> RunResource:
    """The run with another status."""
    return replace(run, status=to)


@dataclass
class World:
    """A cluster without controllers: it holds what was applied until it is deleted."""

    observed: Observed = field(default_factory=lambda: Observed(kueue=True))
    settings: Settings = field(default_factory=Settings)
    secrets: set[str] = field(default_factory=set)

    def plan(self, run: RunResource) -> Plan:
        return plan(run, self.observed, self.settings, KEY)

    def turn(self, run: RunResource) -> Plan:
        """One plan, carried out."""
        found = self.plan(run)
        keys = [(item["kind"], item["metadata"]["name"]) for item in found.apply]
        assert len(set(keys)) == len(keys), "one apply a child"
        for item in found.apply:
            self._apply(item)
        gone = {(child.kind, child.name) for child in found.delete}
        self.secrets -= {name for kind, name in gone if kind == "Secret"}
        left = tuple(child for child in self.observed.children if (child.kind, child.name) not in gone)
        self.observed = replace(self.observed, children=left)
        return found

    def settle(self, run: RunResource) -> list[Mapping[str, Any]]:
        """Turns until nothing is left to do, one or, where something waits for the end of pods, two; what they applied."""
        first, second = self.turn(run), self.turn(run)
        assert {item["kind"] for item in second.apply} <= {"Workload"}
        assert second.delete == ()
        applied = [*first.apply, *second.apply]
        again = self.plan(run)
        assert (again.apply, again.delete) == ((), ()), "a plan that was carried out is empty"
        return applied

    def names(self, kind: str) -> set[str]:
        return {child.name for child in self.observed.children if child.kind == kind}

    def change(self, kind: str, name: str, **changes: Any) -> None:
        """What a controller or somebody else did to a child."""
        children = tuple(
            replace(child, **changes) if (child.kind, child.name) == (kind, name) else child
            for child in self.observed.children
        )
        assert children != self.observed.children
        self.observed = replace(self.observed, children=children)

    def remove(self, kind: str, name: str) -> None:
        """A child that somebody deleted."""
        left = tuple(child for child in self.observed.children if (child.kind, child.name) != (kind, name))
        assert left != self.observed.children
        self.observed = replace(self.observed, children=left)

    def add_pods(self, *pods: PodState) -> None:
        self.observed = replace(self.observed, pods=(*self.observed.pods, *pods))

    def clear_pods(self) -> None:
        self.observed = replace(self.observed, pods=())

    def _apply(self, item: Mapping[str, Any]) -> None:
        metadata = item["metadata"]
        if item["kind"] == "Secret":
            self.secrets.add(metadata["name"])
            return
        labels = metadata["labels"]
        mutable = item["kind"] in ("Service", "NetworkPolicy", "PodDisruptionBudget", "PersistentVolumeClaim")
        before = self.observed.child(item["kind"], metadata["name"])
        child = ChildState(
            conditions=before.conditions if before else {},
            kind=item["kind"],
            name=metadata["name"],
            uid=f"uid-of-{metadata['name']}",
            role=labels[api.ROLE],
            arm=labels.get(api.ARM),
            attempt=int(labels.get(api.ATTEMPT, 1)),
            hash=metadata["annotations"][api.HASH],
            created=MADE,
            spec=item["spec"] if mutable else None,
        )
        left = [c for c in self.observed.children if (c.kind, c.name) != (child.kind, child.name)]
        self.observed = replace(self.observed, children=(*left, child))


def pod(arm: str | None, role: Any, number: int = 1, phase: str = "Running", **rest: Any) -> PodState:
    """A pod of an attempt."""
    return PodState(f"{arm}-{role}-{number}", "u", role, arm, number, phase, MADE, **rest)
