"""What the owner of a Kueue Workload tells it: that its pods run, that it has ended, that its quota is free again.

Kueue does none of this by itself for a bare Workload. Called by `act`. Kueue writes the same status: a change of ours
carries the version that it was made from, and is made again from the next one.
"""

from datetime import UTC, datetime
from typing import Any

from unisd_operator.cluster.client import Client, ConflictError

_WAITS = frozenset({"Deactivated", "PodsReadyTimeout"})
"""Reasons of an eviction after which Kueue itself says when the Workload queues again."""


async def pods_ready(client: Client, namespace: str, name: str) -> None:
    """All pods of the Workload run."""
    await _tell(client, namespace, name, {"PodsReady": ("True", "Started", "all pods run")})


async def finish(client: Client, namespace: str, name: str) -> None:
    """The Workload's component has ended."""
    await _tell(client, namespace, name, {"Finished": ("True", "Succeeded", "the component has ended")})


async def release(client: Client, namespace: str, name: str) -> None:
    """The evicted Workload's pods have stopped: its quota is free, and it queues again."""
    told = {
        "QuotaReserved": ("False", "Pending", "the pods have stopped"),
        "Admitted": ("False", "NoReservation", "the pods have stopped"),
        "PodsReady": ("False", "Stopped", "the pods have stopped"),
    }
    await _tell(client, namespace, name, told, release_quota=True)


async def _tell(
    client: Client, namespace: str, name: str, told: dict[str, tuple[str, str, str]], release_quota: bool = False
) -> None:
    found = await client.list("Workload", namespace, fieldSelector=f"metadata.name={name}")
    if not found:
        return
    metadata, conditions = found[0]["metadata"], found[0].get("status", {}).get("conditions", [])
    if release_quota:
        told = {**told, "Requeued": _requeued(conditions)}
    status: dict[str, Any] = {"conditions": _merged(conditions, told, metadata.get("generation", 1))}
    if release_quota:
        status["admission"] = None
    patch = {"metadata": {"resourceVersion": metadata["resourceVersion"]}, "status": status}
    try:
        await client.merge("Workload", namespace, name, patch, "status")
    except ConflictError:
        return  # its watch event brings the next turn


def _requeued(conditions: list[dict[str, Any]]) -> tuple[str, str, str]:
    reason = next((one.get("reason", "") for one in conditions if one["type"] == "Evicted"), "") or "Released"
    return str(reason not in _WAITS), reason, "the pods have stopped"


def _merged(
    conditions: list[dict[str, Any]], told: dict[str, tuple[str, str, str]], generation: int
) -> list[dict[str, Any]]:
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
