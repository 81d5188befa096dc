"""Events on a run, for every change of phase and every failure: what `kubectl describe sdr` shows below the status.

Called by `reconcile` once a status is written. The same thing told again is the same Event with a higher count.
"""

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from unisd_operator.api.names import API_VERSION, FIELD_MANAGER, KIND
from unisd_operator.api.resource import RunResource
from unisd_operator.api.status import Component, Failure, Stage, Status
from unisd_operator.cluster.client import Client, ClusterError, ConflictError

_MAX_MESSAGE = 1024

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class News:
    """One thing to tell."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


def news(before: Status, after: Status) -> Iterator[News]:
    """What has changed between two statuses that people want to hear of."""
    if before.phase != after.phase:
        bad = after.phase in ("Failed", "Invalid")
        cause = f" ({after.reason})" if after.reason else ""
        yield News("Warning" if bad else "Normal", after.phase, f"the run is {after.phase}{cause}{_stalled(after)}")
    for stages_before, stages_after in ((before.stages, after.stages), (before.components, after.components)):
        earlier = {work.name: work for work in stages_before}
        for work in stages_after:
            yield from _work_news(earlier.get(work.name), work)


def _work_news(before: Stage | Component | None, after: Stage | Component) -> Iterator[News]:
    what = f"{'stage' if isinstance(after, Stage) else 'component'} {after.name}"
    if after.failure is not None and (before is None or before.failure != after.failure):
        yield News("Warning", after.failure.reason, f"{what}: {_failed(after.failure)}")
    if (before.phase if before else "Pending") != after.phase:
        attempt = f", attempt {after.attempt}" if after.attempt > 1 else ""
        waits = f": {after.waiting.reason}" if after.waiting and after.phase == "Pending" else ""
        kind: Literal["Normal", "Warning"] = "Warning" if after.phase == "Failed" else "Normal"
        yield News(kind, after.phase, f"{what} is {after.phase}{attempt}{waits}")


def _failed(failure: Failure) -> str:
    attempt = f"attempt {failure.attempt}: " if failure.attempt else ""
    return f"{attempt}{failure.message}"


def _stalled(status: Status) -> str:
    stalled = next((c for c in status.conditions if c.type == "Stalled" and c.status == "True"), None)
    return f": {stalled.message}" if stalled and stalled.message else ""


async def tell(client: Client, run: RunResource, item: News) -> None:
    """Makes the Event, or counts it up. Events are for people: one that cannot be made does not stop the work."""
    body = _event(run, item)
    try:
        try:
            await client.create("Event", run.namespace, body)
        except ConflictError:
            await _again(client, run, body)
    except ClusterError as error:
        log.warning("%s/%s: an Event was not made: %s", run.namespace, run.name, error)


async def _again(client: Client, run: RunResource, body: dict[str, Any]) -> None:
    name = body["metadata"]["name"]
    found = await client.list("Event", run.namespace, fieldSelector=f"metadata.name={name}")
    count = max((event.get("count", 1) for event in found), default=0) + 1
    patch = {"count": count, "lastTimestamp": body["lastTimestamp"]}
    await client.merge("Event", run.namespace, name, patch)


def _event(run: RunResource, item: News) -> dict[str, Any]:
    digest = hashlib.sha256(f"{run.uid}/{item.reason}/{item.message}".encode()).hexdigest()[:16]
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{run.name}.{digest}", "namespace": run.namespace},
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "namespace": run.namespace,
            "name": run.name,
            "uid": run.uid,
        },
        "type": item.type,
        "reason": item.reason,
        "message": item.message[:_MAX_MESSAGE],
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
        "source": {"component": FIELD_MANAGER},
        "reportingComponent": FIELD_MANAGER,
        "reportingInstance": FIELD_MANAGER,
    }
