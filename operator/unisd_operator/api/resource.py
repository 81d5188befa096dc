"""One SelfDistillRun as the API server holds it, read into typed values."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from unisd.config.base import ConfigError, Problem
from unisd.config.load import parse_cluster_run
from unisd.config.resolve import Arm, resolve
from unisd.config.run import SelfDistillRun
from unisd_operator.api.status import Status


@dataclass(frozen=True)
class RunResource:
    """A run: what was asked for, and the status it has."""

    namespace: str
    name: str
    uid: str
    generation: int
    resource_version: str
    created: datetime
    deleting: bool
    run: SelfDistillRun | None
    """The manifest; None where `problems` says why not."""
    problems: tuple[Problem, ...]
    """What admission could not see (docs/operator/reference.md)."""
    status: Status

    @property
    def spec(self) -> Any:
        """The specification of a valid run."""
        assert self.run is not None, "only valid runs are planned"
        return self.run.spec

    @cached_property
    def arms(self) -> tuple[Arm, ...]:
        """Every component at every seed."""
        return resolve(self.spec)

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.namespace, self.name


def read_resource(body: Mapping[str, Any]) -> RunResource:
    """The run in an object as the API server sends it; never raises for what a user wrote."""
    metadata = body["metadata"]
    run, problems = _run(body)
    return RunResource(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 1),
        resource_version=metadata["resourceVersion"],
        created=datetime.fromisoformat(metadata["creationTimestamp"]),
        deleting="deletionTimestamp" in metadata,
        run=run,
        problems=problems,
        status=_status(body.get("status") or {}),
    )


def _run(body: Mapping[str, Any]) -> tuple[SelfDistillRun | None, tuple[Problem, ...]]:
    metadata = {name: body["metadata"][name] for name in ("name", "namespace") if name in body["metadata"]}
    manifest = {"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": metadata, "spec": body.get("spec")}
    try:
        return parse_cluster_run(manifest), ()
    except ConfigError as error:
        return None, error.problems


def _status(status: Mapping[str, Any]) -> Status:
    """The status that was written; one of another version's making starts anew, since it can be derived again."""
    try:
        return Status.model_validate(status)
    except ValidationError:
        return Status()
