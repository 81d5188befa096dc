"""One turn of a run: observe, derive its status, write it, plan, act. Called by the queue's workers (`process`).

Level-triggered: a turn looks at all there is, whatever woke it, and may be repeated at any time. What was decided is
written before it is acted on, so that an operator that is killed between two calls goes on from what stands there.
"""

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from unisd_operator.api.names import KIND
from unisd_operator.api.resource import Key, RunResource
from unisd_operator.api.status import ENDED, Status
from unisd_operator.cluster.act import Actor, carry_out, claim_modes, still_foreign
from unisd_operator.cluster.client import Client
from unisd_operator.cluster.logs import failed_log, wants_log
from unisd_operator.cluster.store import Store
from unisd_operator.events import news, tell
from unisd_operator.metrics import Metrics
from unisd_operator.observed import ChildState, ContainerState, Observed, PodState
from unisd_operator.planning.plan import plan
from unisd_operator.planning.storage import makes_claim
from unisd_operator.settings import Settings
from unisd_operator.status import derive_status, due

# Seconds that a Job may be without pods, or a pod on its node not started, before Events are asked why, and between two
# questions. For an answer the API server reads all Events of the namespace, and controllers that are busy take seconds.
_PATIENCE = 10.0
_REFUSAL = "reason=FailedCreate"
_START = "reason!=FailedScheduling,reason!=Scheduled"
# Seconds until a status is derived again since the API server refused something: its words may change every time.
_SOON = 0.2
_FIGURES: dict[str, Any] = {
    "progress_percentage": True,
    "conditions": True,
    "stages": {"__all__": {"progress", "waiting"}},
    "components": {
        "__all__": {"progress", "policy_version", "checkpoint", "gpu_seconds", "metered_time", "rollout", "waiting"}
    },
}
"""What moves all the time while nothing is decided."""


@dataclass(frozen=True)
class World:
    """What turns need."""

    client: Client
    store: Store
    settings: Settings
    secret: bytes
    metrics: Metrics


async def reconcile(world: World, key: Key) -> float | None:
    """One turn; in how many seconds the run wants to be looked at again, None once it is gone."""
    run = world.store.run(key)
    if run is None or run.deleting:
        world.metrics.remove(key)
        return None
    observed = await observe(world, run)
    assert observed.time is not None, "observations of a cluster have a time"
    status = derive_status(run, observed, world.settings, observed.time)
    if (wait := _postponed(world, run, status)) > 0:
        return wait
    before = run.status
    if status != before:
        run = await write_status(world, run, status)
    if world.store.knows(run.uid):
        world.metrics.update(key, status)
    try:
        again = run.run is not None and await _act(world, run, observed)
    finally:
        for item in news(before, status):
            await tell(world.client, run, item)
    return _SOON if again else _next_look(world, run, observed)


async def _act(world: World, run: RunResource, observed: Observed) -> bool:
    """Carries out what follows from the status; whether the status is to be derived again for it."""
    actor = Actor(world.client, world.store, world.settings.resync_seconds)
    return await carry_out(actor, run, plan(run, observed, world.settings, world.secret))


async def observe(world: World, run: RunResource) -> Observed:
    """What is seen of the run's children now; logs of failed containers and what holds pods up are asked for."""
    notes, store = world.store.notes(run.uid), world.store
    pods, children = store.pods(run.uid), store.children(run.uid)
    notes.forget_all_but({pod.name for pod in pods}, {one.uid for one in children} | {pod.uid for pod in pods})
    questions: list[Awaitable[None]] = []
    for pod in pods:
        for container in pod.containers:
            if wants_log(pod, container) and (pod.uid, container.name, container.restarts) not in notes.log_keys:
                questions.append(_keep_log(world, run, pod, container))
    with_pods = {(pod.arm, pod.role, pod.attempt) for pod in pods}
    questions += [
        _keep_event(world, run, child.uid, _REFUSAL)
        for child in children
        if _is_stuck(child) and (child.arm, child.role, child.attempt) not in with_pods
    ]
    questions += [_keep_event(world, run, pod.uid, _START) for pod in pods if _is_held_up(pod)]
    if run.run is not None and run.status.phase not in ENDED and not makes_claim(run) and not notes.claim_modes:
        questions.append(_keep_claim_modes(world, run))
    await asyncio.gather(*questions)
    notes.foreign_claim = notes.foreign_claim and await still_foreign(world.client, run)
    return Observed(
        time=datetime.now(UTC),
        children=tuple(replace(child, refusal=notes.events.get(child.uid, child.refusal)) for child in children),
        pods=tuple(replace(pod, event=notes.events[pod.uid]) if pod.uid in notes.events else pod for pod in pods),
        answers=dict(notes.answers),
        log_tails=dict(notes.log_tails),
        kueue="Workload" in (store.served or ()),
        foreign_claim=notes.foreign_claim,
        claim_modes=notes.claim_modes,
        refused=dict(notes.refused),
    )


async def _keep_log(world: World, run: RunResource, pod: PodState, container: ContainerState) -> None:
    notes = world.store.notes(run.uid)
    notes.log_tails[f"{pod.name}/{container.name}"] = await failed_log(world.client, run.namespace, pod, container)
    notes.log_keys.add((pod.uid, container.name, container.restarts))


async def _keep_claim_modes(world: World, run: RunResource) -> None:
    world.store.notes(run.uid).claim_modes = await claim_modes(world.client, run)


def _is_stuck(child: ChildState) -> bool:
    """Whether a Job should have made pods by now."""
    if child.kind != "Job" or child.succeeded or child.failed or child.deleting:
        return False
    return (datetime.now(UTC) - child.created).total_seconds() >= _PATIENCE


def _is_held_up(pod: PodState) -> bool:
    """Whether a pod should have started on its node by now."""
    if not _waits(pod) or pod.deleting_since is not None:
        return False
    return (datetime.now(UTC) - pod.created).total_seconds() >= _PATIENCE


def _waits(pod: PodState) -> bool:
    """Whether a pod has its node and has not started there."""
    return pod.phase == "Pending" and pod.scheduled


async def _keep_event(world: World, run: RunResource, uid: str, which: str) -> None:
    """Why a Job has no pods, or a pod does not start: only the Events of a controller or the kubelet say so."""
    notes, now = world.store.notes(run.uid), time.monotonic()
    if now - notes.asked.get(uid, float("-inf")) < _PATIENCE:
        return
    notes.asked[uid] = now
    events = await world.client.list("Event", run.namespace, fieldSelector=f"involvedObject.uid={uid},{which}")
    newest = max(events, key=lambda event: event.get("lastTimestamp") or "", default=None)
    if newest is not None:
        notes.events[uid] = newest.get("message", "")


def _postponed(world: World, run: RunResource, status: Status) -> float:
    """Seconds that a change of figures alone has to wait, since status was written a moment ago; else 0."""
    if status == run.status:
        return 0.0
    left = world.store.notes(run.uid).written + world.settings.status_seconds - time.monotonic()
    if left <= 0 or status.model_dump(exclude=_FIGURES) != run.status.model_dump(exclude=_FIGURES):
        return 0.0
    return left


async def write_status(world: World, run: RunResource, status: Status) -> RunResource:
    """Writes a status, unless the run has changed since it was read (ConflictError); the run as it is then."""
    patch = {"metadata": {"resourceVersion": run.resource_version}, "status": _as_patch(status)}
    answer = await world.client.merge(KIND, run.namespace, run.name, patch, "status")
    world.store.put_run(answer)
    world.store.notes(run.uid).written = time.monotonic()
    return replace(run, status=status, resource_version=answer["metadata"]["resourceVersion"])


def _as_patch(status: Status) -> dict[str, Any]:
    """The status as a merge patch: a field that is not set any more is null, which removes it."""
    values = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    gone = [field.alias or name for name, field in Status.model_fields.items() if getattr(status, name) is None]
    return {**values, **dict.fromkeys(gone)}


def _next_look(world: World, run: RunResource, observed: Observed) -> float:
    """Seconds until the run is looked at again although nothing happens."""
    now = datetime.now(UTC)
    looks = [world.settings.resync_seconds]
    if (time_due := due(run, run.status, now)) is not None:
        looks.append((time_due - now).total_seconds())
    looks += [(at - now).total_seconds() for pod in observed.pods if (at := pod.lost_at) is not None and at > now]
    if run.status.phase not in ENDED:
        jobs = [child for child in observed.children if child.kind == "Job" and not (child.succeeded or child.failed)]
        without_pods = any(not observed.pods_of(job.arm, job.role) for job in jobs)
        if without_pods or any(map(_waits, observed.pods)) or observed.refused or observed.foreign_claim:
            looks.append(_PATIENCE)
    return max(0.05, min(looks))
