"""Carries out a plan: the one place that writes a run's children. Called by `reconcile`.

What the API server answers is taken into the store at once. What it refuses is noted for the component concerned, whose
other objects then wait, while the other components go on.
"""

import time
from dataclasses import dataclass

from unisd_operator.api.names import ARM, HASH, RUN_UID, STAGE, Object
from unisd_operator.api.resource import RunResource
from unisd_operator.cluster.client import Client, ConflictError, NotFoundError, RefusedError
from unisd_operator.cluster.kueue import finish, pods_ready, release
from unisd_operator.cluster.store import Notes, Store
from unisd_operator.observed import ChildState
from unisd_operator.planning.difference import FROZEN
from unisd_operator.planning.names import claim
from unisd_operator.planning.plan import Plan
from unisd_operator.planning.storage import claim_name

_CLAIM = "PersistentVolumeClaim"


@dataclass(frozen=True)
class Actor:
    """Where plans are carried out."""

    client: Client
    store: Store
    resync_seconds: float
    """Time after which a Secret is applied again, seconds."""


async def carry_out(actor: Actor, run: RunResource, plan: Plan) -> bool:
    """Does what the plan says, in an order that never leaves two attempts beside each other.

    Returns:
        whether what is noted of the run has changed, so that its status is to be derived again.
    """
    notes = actor.store.notes(run.uid)
    before = notes.refused, notes.foreign_claim
    for child in plan.delete:
        await _delete(actor, run, child)
    for pod in plan.force_delete:
        await actor.client.delete("Pod", run.namespace, pod.name, pod.uid, grace_seconds=0)
    for tell, workloads in ((release, plan.release), (finish, plan.finish), (pods_ready, plan.pods_ready)):
        for workload in workloads:
            if (answer := await tell(actor.client, run.namespace, workload.name)) is not None:
                actor.store.put("Workload", answer)
    refused: dict[str, str] = {}
    for body in _in_order(plan, notes, actor.resync_seconds):
        if _work(body) not in refused:
            await _apply(actor, run, body, refused)
        if notes.foreign_claim:
            break  # nothing of the run may touch another's data
    notes.refused = refused
    return (notes.refused, notes.foreign_claim) != before


def _in_order(plan: Plan, notes: Notes, resync_seconds: float) -> list[Object]:
    """The claim; Secrets that are new or were not applied for a while, before the pods that read them; the rest."""
    now = time.monotonic()

    def is_due(body: Object) -> bool:
        digest, applied = notes.secrets.get(body["metadata"]["name"], ("", 0.0))
        return digest != body["metadata"]["annotations"][HASH] or now - applied >= resync_seconds

    claims = [body for body in plan.apply if body["kind"] == _CLAIM]
    return [*claims, *filter(is_due, plan.secrets), *(body for body in plan.apply if body["kind"] != _CLAIM)]


def _work(body: Object) -> str:
    """The arm or shared stage that an object belongs to; the claim, without which nothing is prepared, to `prepare`."""
    labels = body["metadata"]["labels"]
    return str(labels.get(ARM) or labels.get(STAGE, "prepare"))


async def _apply(actor: Actor, run: RunResource, body: Object, refused: dict[str, str]) -> None:
    kind, name = body["kind"], body["metadata"]["name"]
    notes = actor.store.notes(run.uid)
    try:
        if kind == _CLAIM and not any(child.kind == _CLAIM for child in actor.store.children(run.uid)):
            answer = await _make_claim(actor.client, run, body)
            notes.foreign_claim = answer is None
        elif kind in FROZEN and kind != "Secret":
            # Never taken over from another's: one of its name is refused as a conflict. Half the work of an apply.
            answer = await actor.client.create(kind, run.namespace, body)
        else:
            answer = await actor.client.apply(run.namespace, body)
    except (RefusedError, ConflictError) as error:
        refused[_work(body)] = f"{kind} {name}: {error}"
        return
    if kind == "Secret":
        notes.secrets[name] = body["metadata"]["annotations"][HASH], time.monotonic()
    elif answer is not None:
        actor.store.put(kind, answer)


async def _make_claim(client: Client, run: RunResource, body: Object) -> Object | None:
    """The run's claim, made if there is none of its name; None if that one is another's."""
    try:
        return await client.create(_CLAIM, run.namespace, body)
    except ConflictError:
        found = await client.get(_CLAIM, run.namespace, body["metadata"]["name"])
        return None if _is_foreign(found, run) else found


async def still_foreign(client: Client, run: RunResource) -> bool:
    """Whether the claim in the run's way is still there: whoever made it may have deleted it."""
    try:
        return _is_foreign(await client.get(_CLAIM, run.namespace, claim(run.name)), run)
    except NotFoundError:
        return False


async def claim_modes(client: Client, run: RunResource) -> tuple[str, ...]:
    """Access modes of the existing claim that a run was given; none while that is not there."""
    try:
        found = await client.get(_CLAIM, run.namespace, claim_name(run))
    except NotFoundError:
        return ()
    return tuple(found["spec"]["accessModes"])


def _is_foreign(found: Object, run: RunResource) -> bool:
    return bool(found["metadata"].get("labels", {}).get(RUN_UID) != run.uid)


async def _delete(actor: Actor, run: RunResource, child: ChildState) -> None:
    """Deletes a child; another object that has taken its name stays."""
    try:
        await actor.client.delete(child.kind, run.namespace, child.name, child.uid or None)
    except (ConflictError, NotFoundError):
        return
    if child.kind == "Secret":
        actor.store.notes(run.uid).secrets.pop(child.name, None)
    else:
        actor.store.mark_deleting(run, child)
