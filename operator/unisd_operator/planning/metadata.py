"""What every child carries: labels, owner reference, hash. Called by every builder of `unisd_operator.planning`."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unisd_operator.api import names as api
from unisd_operator.api.names import Object
from unisd_operator.api.resource import RunResource
from unisd_operator.planning import names
from unisd_operator.planning.images import Runs
from unisd_operator.settings import Settings

# Read by people and by `describe`, never compared: a newer operator does not write every Service anew for it.
_NOT_HASHED = frozenset({api.OPERATOR_VERSION})


@dataclass(frozen=True)
class Attempt:
    """One attempt at a shared stage or at a component: what its objects are named and labelled by."""

    run: RunResource
    settings: Settings
    work: str
    """Name of the stage or of the arm."""
    arm: str | None
    """The arm; None for a shared stage."""
    number: int
    images: Mapping[Runs, str]
    """Images that it started with."""
    on_one_node: bool = False
    """Whether its pods that mount the run's claim must run on one node."""

    def name(self, part: str) -> str:
        """Name of a child of this attempt: `run-arm-part-1`; of a shared stage `run-stage-1` or `run-stage-part-1`."""
        if self.arm is None and part != self.work:
            part = f"{self.work}-{part}"
        return names.child(self.run.name, self.arm, part, self.number)

    def labels(self, role: api.Role | None = None) -> dict[str, str]:
        """Labels of the pods of this attempt, of one role if given: what selectors match."""
        work = {api.STAGE: self.work} if self.arm is None else {api.ARM: self.arm}
        of_role = {} if role is None else {api.ROLE: role}
        return {api.RUN_UID: self.run.uid, **work, **of_role, api.ATTEMPT: str(self.number)}

    def all_labels(self, role: api.Role) -> dict[str, str]:
        """Every label that a child of this attempt and its pods carry."""
        return {api.MANAGED_BY: api.FIELD_MANAGER, api.RUN: self.run.name, **self.labels(role)}


def make(attempt: Attempt, kind: str, name: str, role: api.Role, body: Object) -> Object:
    """A child of an attempt, owned by the run; `kind` is `apiVersion/kind`, e.g. `apps/v1/Deployment`."""
    api_version, _, bare_kind = kind.rpartition("/")
    metadata = {
        "name": name,
        "namespace": attempt.run.namespace,
        "labels": {**attempt.all_labels(role), api.OPERATOR_VERSION: attempt.settings.version},
        "ownerReferences": [owner(attempt.run)],
    }
    return hashed({"apiVersion": api_version, "kind": bare_kind, "metadata": metadata, **body})


def owner(run: RunResource) -> Object:
    """The owner reference to a run. It does not block the run's deletion: nothing may."""
    return {"apiVersion": api.API_VERSION, "kind": api.KIND, "name": run.name, "uid": run.uid, "controller": True}


def hashed(planned: Object, over: object = None) -> Object:
    """The object with its hash as annotation.

    Args:
        planned: the object.
        over: what the hash covers, where only that may change while the object lives; by default all of it.
    """
    metadata = planned["metadata"]
    if over is None:
        labels = {key: value for key, value in metadata["labels"].items() if key not in _NOT_HASHED}
        over = {**planned, "metadata": {**metadata, "labels": labels}}
    annotations = {**metadata.get("annotations", {}), api.HASH: content_hash(over)}
    return {**planned, "metadata": {**metadata, "annotations": annotations}}


def content_hash(value: object) -> str:
    """Sixteen hexadecimal digits that stand for a JSON value."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def pruned(value: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping without entries that say nothing: None, and empty lists, mappings and texts."""
    return {key: item for key, item in value.items() if item is not None and item not in ({}, [], (), "")}
