"""One SelfDistillRun as the API server holds it, read into typed values."""

import copy
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
from unisd_operator.api.names import Object
from unisd_operator.api.status import Status

Key = tuple[str, str]
"""Namespace and name of a run."""

_MOST_REPAIRS = 4
"""Rounds of leaving out: a value that is left out may leave its block incomplete, which is then left out as well."""


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
    def key(self) -> Key:
        """Namespace and name."""
        return self.namespace, self.name


def read_resource(body: Object) -> RunResource:
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


def _run(body: Object) -> tuple[SelfDistillRun | None, tuple[Problem, ...]]:
    metadata = {name: body["metadata"][name] for name in ("name", "namespace") if name in body["metadata"]}
    manifest = {"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": metadata, "spec": body.get("spec")}
    try:
        return parse_cluster_run(manifest), ()
    except ConfigError as error:
        return None, error.problems


def _status(status: Mapping[str, Any]) -> Status:
    """The status that was written, without what another version wrote into it and this one does not know.

    It is not forgotten as a whole: a finished run whose children have expired would begin again.
    """
    known = copy.deepcopy(dict(status))
    for _ in range(_MOST_REPAIRS):
        try:
            return Status.model_validate(known)
        except ValidationError as error:
            # From the end, so that indices of lists stay true.
            for detail in reversed(error.errors()):
                _leave_out(known, detail["loc"][:-1] if detail["type"] == "missing" else detail["loc"])
    return Status()


def _leave_out(value: Any, place: tuple[str | int, ...]) -> None:
    *way, last = place
    for step in way:
        value = value[step]
    del value[last]
