"""What the owner of a Kueue Workload tells it: that its pods run, that it has ended, that its quota is free again.

Kueue does none of this by itself for a bare Workload. Called by `act`. Kueue writes the same status: a change of ours
carries the version that it was made from, and is made again from the next one.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from unisd_operator.api.names import Object
from unisd_operator.cluster.client import Client, ConflictError

_QUEUES_AT_ONCE = frozenset({"Preempted", "NodeFailures"})
"""Reasons of an eviction after which the owner says that the Workload queues again; after others Kueue does."""
_Told = Mapping[str, tuple[str, str, str]]
"""Condition type to status, reason and message."""


async def pods_ready(client: Client, namespace: str, name: str) -> Object | None:
    """All pods of the Workload run. Returns, as the others do, the Workload as it is then; None if nothing was said."""
    found = await _find(client, namespace, name)
    return found and await _tell(client, found, {"PodsReady": ("True", "Started", "all pods run")})


async def finish(client: Client, namespace: str, name: str) -> Object | None:
    """The Workload's component has ended."""
    found = await _find(client, namespace, name)
    return found and await _tell(client, found, {"Finished": ("True", "Succeeded", "the component has ended")})


async def release(client: Client, namespace: str, name: str) -> Object | None:
    """The evicted Workload's pods have stopped: its quota is free, and it queues again."""
    found = await _find(client, namespace, name)
    conditions = {one["type"]: one for one in (found or {}).get("status", {}).get("conditions", [])}
    evicted, reserved = conditions.get("Evicted", {}), conditions.get("QuotaReserved", {})
    if found is None or (evicted.get("status"), reserved.get("status")) != ("True", "True"):
        return None  # it was released before, and may have got new quota since
    reason, why = evicted.get("reason", ""), evicted.get("message", "")
    told = {
        "QuotaReserved": ("False", "Pending", why),
        "Admitted": ("False", "NoReservation", why),
        # The one reason for which Kueue's waitForPodsReady counts anew.
        "PodsReady": ("False", "WaitForStart", "the pods have stopped"),
        "Requeued": (str(reason in _QUEUES_AT_ONCE), reason, why),
    }
    return await _tell(client, found, told, admission=None)


async def _find(client: Client, namespace: str, name: str) -> Object | None:
    found = await client.list("Workload", namespace, fieldSelector=f"metadata.name={name}")
    return found[0] if found else None


async def _tell(client: Client, workload: Object, told: _Told, **status: Any) -> Object | None:
    metadata, before = workload["metadata"], workload.get("status", {}).get("conditions", [])
    status["conditions"] = _merged(before, told, metadata.get("generation", 1))
    patch = {"metadata": {"resourceVersion": metadata["resourceVersion"]}, "status": status}
    try:
        return await client.merge("Workload", metadata["namespace"], metadata["name"], patch, "status")
    except ConflictError:
        return None  # its watch event brings the next turn


def _merged(conditions: list[dict[str, Any]], told: _Told, generation: int) -> list[dict[str, Any]]:
    """The conditions with those that are told; the time of a change stands where nothing changes."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    before = {one["type"]: one for one in conditions}
    for kind, (value, reason, message) in told.items():
        old = before.get(kind, {})
        since = old["lastTransitionTime"] if old.get("status") == value else now
        before[kind] = {
            "type": kind,
            "status": value,
            "reason": reason,
            "message": message,
            "lastTransitionTime": since,
            "observedGeneration": generation,
        }
    return list(before.values())
