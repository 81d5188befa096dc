"""Desired objects and live ones to what is to be applied and deleted. Pure; called by `plan`.

Frozen kinds are made once and never applied again; mutable ones are repaired when they differ.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from unisd_operator.api import names as api
from unisd_operator.api.names import Object
from unisd_operator.observed import ChildState, Observed
from unisd_operator.planning.desired import Wanted

FROZEN = frozenset({"ConfigMap", "Secret", "Deployment", "Job"})
_WITH_PODS = frozenset({"Deployment", "Job"})
# What pods refer to comes before them; what governs them, too.
_ORDER = (
    "PersistentVolumeClaim",
    "Workload",
    "ConfigMap",
    "Secret",
    "NetworkPolicy",
    "Service",
    "PodDisruptionBudget",
    "Deployment",
    "Job",
)


@dataclass(frozen=True)
class Difference:
    """What to apply, which Secrets to apply again now and then, and what to delete."""

    apply: tuple[Object, ...]
    secrets: tuple[Object, ...]
    delete: tuple[ChildState, ...]


def difference(wanted: Wanted, observed: Observed) -> Difference:
    """What turns the live objects into those wanted."""
    apply = [item for item in wanted.objects if item["kind"] != "Secret" and _to_make(item, observed)]
    apply += [item for item in (*wanted.objects, *wanted.if_live) if _differs(item, observed)]
    made = {item["metadata"]["name"] for item in apply if item["kind"] == "Deployment"}
    secrets = [item for item in wanted.objects if item["kind"] == "Secret"]
    apply += [item for item in secrets if item["metadata"]["name"] in made]
    kept = tuple(i for i in secrets if observed.child("Deployment", i["metadata"]["name"]) is not None)
    ordered = sorted(apply, key=lambda item: (_ORDER.index(item["kind"]), item["metadata"]["name"]))
    return Difference(tuple(ordered), kept, tuple(_to_delete(wanted, observed)))


def _live(item: Object, observed: Observed) -> ChildState | None:
    return observed.child(item["kind"], item["metadata"]["name"])


def _to_make(item: Object, observed: Observed) -> bool:
    """Whether an object is missing and nothing is left of what stood in its place."""
    if _live(item, observed) is not None:
        return False
    return item["kind"] not in _WITH_PODS or not _pods_left(item["metadata"]["labels"], observed)


def _pods_left(labels: Mapping[str, str], observed: Observed) -> bool:
    """Whether pods of the same kind, or of a component's older attempts, are still there."""
    arm, attempt = labels.get(api.ARM), int(labels[api.ATTEMPT])
    found = observed.pods_of(arm)
    return any(pod.role == labels[api.ROLE] or (arm is not None and pod.attempt < attempt) for pod in found)


def _differs(item: Object, observed: Observed) -> bool:
    """Whether a live mutable object is not as it is wanted."""
    live = _live(item, observed)
    if live is None or live.deleting or item["kind"] in FROZEN:
        return False
    if live.hash != item["metadata"]["annotations"][api.HASH]:
        return True
    return live.spec is not None and not contains(live.spec, item["spec"], exactly=item["kind"] != "Service")


def contains(live: Any, planned: Any, exactly: bool) -> bool:
    """Whether a live value holds all that a planned one says; the API server may have filled in more.

    Args:
        live: plain data from the API server.
        planned: plain data that was applied.
        exactly: whether lists must have the same length; else others may have added to them.
    """
    if isinstance(planned, dict):
        return isinstance(live, dict) and all(contains(live.get(key), planned[key], exactly) for key in planned)
    if not isinstance(planned, list):
        return bool(live == planned)
    found = live or []  # the API server leaves out what is empty
    if not exactly:
        return all(any(contains(one, item, exactly) for one in found) for item in planned)
    return len(found) == len(planned) and all(map(contains, found, planned, [exactly] * len(planned)))


def _to_delete(wanted: Wanted, observed: Observed) -> Iterator[ChildState]:
    """Children that are not wanted, those with pods first; a Secret before its Deployment, whose name tells of it."""
    objects = {(item["kind"], item["metadata"]["name"]) for item in (*wanted.objects, *wanted.if_live)}
    keep = frozenset(wanted.keep)
    unwanted = [
        child
        for child in observed.children
        if (child.kind, child.name) not in objects
        and not ((child.kind, child.name) in keep and _may_stay(child))
        and not child.deleting
        and not _still_governs(child, observed)
    ]
    for child in sorted(unwanted, key=lambda child: (-_ORDER.index(child.kind), child.name)):
        if child.kind == "Deployment" and child.role == "rollout":
            yield _secret_of(child)
        yield child


def _may_stay(child: ChildState) -> bool:
    """Jobs stay for their logs, and only when nothing of them runs."""
    return child.kind != "Job" or child.succeeded or child.failed


def _still_governs(child: ChildState, observed: Observed) -> bool:
    """Whether pods that have not ended are still under this policy, or use the quota of this Workload."""
    if child.kind not in ("NetworkPolicy", "Workload"):
        return False
    of = [pod for pod in observed.pods_of(child.arm) if pod.attempt == child.attempt and not pod.ended]
    return any(child.kind == "Workload" or pod.role == child.role for pod in of)


def _secret_of(deployment: ChildState) -> ChildState:
    """The Secret that was made with a Deployment; Secrets themselves are never read."""
    return ChildState(
        kind="Secret",
        name=deployment.name,
        uid="",
        role=deployment.role,
        arm=deployment.arm,
        attempt=deployment.attempt,
        hash="",
        created=deployment.created,
    )
