"""What `unisd render` shows: every object that the operator applies over a run's life, without a cluster. Pure.

The objects are those of `plan` itself, asked for each phase in turn as if the first attempt of everything went well.
Run uid and API key are placeholders.
"""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import yaml

from unisd.config.run import SelfDistillRun
from unisd.stages import CLOSING, stages
from unisd_operator.api.names import Object
from unisd_operator.api.resource import RunResource
from unisd_operator.api.status import Component, Stage, Status
from unisd_operator.observed import Observed
from unisd_operator.planning import secret
from unisd_operator.planning.metadata import hashed
from unisd_operator.planning.plan import plan
from unisd_operator.settings import Settings
from unisd_operator.untrusted import gpus_of

UID = "RUN-UID"
API_KEY = "API-KEY"


@dataclass(frozen=True)
class Gpus:
    """GPUs of one component, or of the shared stage `contexts`."""

    name: str
    rollout: int
    """Of its rollout servers while it trains."""
    work: int
    """Of its training pods, or of the stage's own."""
    evaluation: int = 0
    """Of everything while it is evaluated."""

    @property
    def most(self) -> int:
        """At once, at most."""
        return max(self.rollout + self.work, self.evaluation)

    def __str__(self) -> str:
        counts = {"rollout": self.rollout, "own": self.work, "evaluation": self.evaluation}
        told = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        return f"{self.name}: {told or 0}, at most {self.most} at once"


def render(run: SelfDistillRun, settings: Settings) -> tuple[Object, ...]:
    """The objects, each once, in the order in which they are first applied."""
    found: dict[tuple[str, str], Object] = {}
    for status in _life(run):
        for item in _planned(run, settings, status):
            found.setdefault((item["kind"], item["metadata"]["name"]), item)
    return tuple(found.values())


def to_yaml(objects: tuple[Object, ...]) -> str:
    """The objects as YAML documents; innermost lists and mappings stand on one line."""
    return "".join(f"---\n{_document(item)}" for item in objects)


def gpus(run: SelfDistillRun, settings: Settings) -> tuple[Gpus, ...]:
    """GPUs of the stage `contexts`, if there is one, and of each component, by what their pods ask for."""
    rows = []
    if "contexts" in _shared(run):
        servers, own = _counts(run, settings, _of_stage("contexts"))
        rows.append(Gpus("contexts", servers, own))
    for arm in _resource(run, Status()).arms:
        servers, trainers = _counts(run, settings, _of_arm(arm.name, "Starting")) if arm.trains else (0, 0)
        rows.append(Gpus(arm.name, servers, trainers, sum(_counts(run, settings, _of_arm(arm.name, "Evaluating")))))
    return tuple(rows)


def most_gpus(run: SelfDistillRun, rows: tuple[Gpus, ...]) -> int:
    """GPUs of a run at once, at most: as many components as may run together, and `contexts` beside them."""
    arms = sorted((row.most for row in rows if row.name != "contexts"), reverse=True)
    return sum(arms[: run.spec.parallelism]) + sum(row.most for row in rows if row.name == "contexts")


def _life(run: SelfDistillRun) -> Iterator[Status]:
    """A status for every phase that makes objects."""
    yield from (_of_stage(name) for name in _shared(run) if name not in CLOSING)
    for arm in _resource(run, Status()).arms:
        if arm.trains:
            yield _of_arm(arm.name, "Starting")
        yield _of_arm(arm.name, "Evaluating")
    yield from (_of_stage(name) for name in _shared(run) if name in CLOSING)


def _shared(run: SelfDistillRun) -> list[str]:
    return [stage.name for stage in stages(run, {}) if stage.arm is None]


def _of_stage(name: str) -> Status:
    return Status(stages=[Stage.model_validate({"name": name, "phase": "Starting"})])


def _of_arm(name: str, phase: str) -> Status:
    component, _, seed = name.rpartition("-")
    return Status(
        components=[Component.model_validate({"name": name, "component": component, "seed": seed, "phase": phase})]
    )


def _planned(run: SelfDistillRun, settings: Settings, status: Status) -> tuple[Object, ...]:
    applied = plan(_resource(run, status), Observed(kueue=True), settings, b"").apply
    return tuple(_without_key(item) if item["kind"] == "Secret" else item for item in applied)


def _resource(run: SelfDistillRun, status: Status) -> RunResource:
    namespace = run.metadata.namespace or "default"
    made = datetime.fromtimestamp(0, UTC)
    return RunResource(namespace, run.metadata.name, UID, 1, "", made, False, run, (), status)


def _without_key(item: Object) -> Object:
    return hashed({**item, "data": {secret.KEY: base64.b64encode(API_KEY.encode()).decode()}})


def _counts(run: SelfDistillRun, settings: Settings, status: Status) -> tuple[int, int]:
    """GPUs of all pods of Deployments, and of Jobs."""
    found = {"Deployment": 0, "Job": 0}
    for item in _planned(run, settings, status):
        if item["kind"] in found:
            found[item["kind"]] += _pods(item) * _gpus(item, settings)
    return found["Deployment"], found["Job"]


def _pods(item: Object) -> int:
    spec = item["spec"]
    return int(spec.get("replicas", spec.get("parallelism", 1)))


def _gpus(item: Object, settings: Settings) -> int:
    return gpus_of(item["spec"]["template"]["spec"]["containers"], settings.gpu_resource)


def _document(item: Object) -> str:
    return yaml.dump(dict(item), Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=120)


class _Dumper(yaml.CSafeDumper):
    """Plain YAML: what stands twice is written twice, and texts of several lines as such."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.CSafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
