"""The claim of a run: made, found or shared, and how pods mount it. Pure.

`/data` is the claim (or a folder of it), `/model` a model from a claim that runs share. A claim that is to be kept has
no owner; one that is not goes with the run.
"""

from typing import Any

from unisd.config.cluster import Storage
from unisd.config.names import CLAIM_ROOT
from unisd.config.run import RunSpec
from unisd_operator.api import names as api
from unisd_operator.api.names import Object
from unisd_operator.api.resource import RunResource
from unisd_operator.observed import Observed
from unisd_operator.planning import names, sizes
from unisd_operator.planning.metadata import hashed, owner, pruned
from unisd_operator.settings import Settings

MODEL = "/model"


def claim_name(run: RunResource) -> str:
    """The claim that the run's pods mount."""
    return _storage(run).existing_claim or names.claim(run.name)


def makes_claim(run: RunResource) -> bool:
    """Whether the claim is of the run's making."""
    return _storage(run).existing_claim is None


def claim(run: RunResource, observed: Observed, settings: Settings) -> Object:
    """The claim of a run. Its size and class are those it was made with; only its owner may change."""
    storage = _storage(run)
    live = observed.child("PersistentVolumeClaim", names.claim(run.name))
    spec = _claim_spec(run.spec, storage, settings)
    if live is not None and live.spec is not None:
        spec = {name: live.spec[name] for name in ("accessModes", "resources", "storageClassName") if name in live.spec}
    owners = [owner(run)] if _owned(run, storage) else []
    labels = {api.MANAGED_BY: api.FIELD_MANAGER, api.RUN: run.name, api.RUN_UID: run.uid, api.ROLE: "storage"}
    metadata = {"name": names.claim(run.name), "namespace": run.namespace, "labels": labels, "ownerReferences": owners}
    planned = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": pruned(metadata), "spec": spec}
    return hashed(planned, over=[labels, owners])


def mounts(run: RunResource, read_only: bool) -> tuple[list[Object], list[Object]]:
    """Volumes and mounts of the claim, and of a shared claim with the model."""
    storage, model = _storage(run), run.spec.model.claim
    volumes: list[Object] = [{"name": "data", "persistentVolumeClaim": {"claimName": claim_name(run)}}]
    data = {"name": "data", "mountPath": CLAIM_ROOT, "subPath": storage.sub_path, "readOnly": read_only or None}
    mounted: list[Object] = [pruned(data)]
    if model is not None:
        volumes.append({"name": "model", "persistentVolumeClaim": {"claimName": model.name, "readOnly": True}})
        mounted.append({"name": "model", "mountPath": MODEL, "readOnly": True})
    return volumes, mounted


def on_one_node(run: RunResource, observed: Observed) -> bool:
    """Whether all pods that mount the claim must run on one node: as the manifest says of its own, or as another is."""
    modes = (_storage(run).access_mode,) if makes_claim(run) else observed.claim_modes
    return "ReadWriteOnce" in modes and "ReadWriteMany" not in modes


def goes_with_children(run: RunResource) -> bool:
    """Whether the claim is deleted when the children of a finished run are."""
    return makes_claim(run) and _storage(run).policy == "Delete"


def _storage(run: RunResource) -> Storage:
    return run.spec.storage or Storage()


def _claim_spec(spec: RunSpec, storage: Storage, settings: Settings) -> dict[str, Any]:
    return pruned(
        {
            "accessModes": [storage.access_mode or "ReadWriteMany"],
            "resources": {"requests": {"storage": storage.size or sizes.claim_size(spec)}},
            "storageClassName": storage.storage_class_name or settings.storage_class_name,
        }
    )


def _owned(run: RunResource, storage: Storage) -> bool:
    """Whether the claim goes when the run goes."""
    succeeded = run.status.phase == "Succeeded"
    return storage.policy == "Delete" or (storage.policy == "RetainOnFailure" and succeeded)
