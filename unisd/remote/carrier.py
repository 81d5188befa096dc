"""The pod that carries files into and out of a claim: short-lived, restricted, with nothing but that claim. Pure.

Called by `remote.transfer`. Where it may run and whom it runs as is taken from a Job of the run, where there is one:
what this cluster asks of pods stands there already. It bears no label that the operator looks for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unisd.config.names import CLAIM, CLAIM_ROOT

Object = Mapping[str, Any]

CONTAINER = "carrier"
LONGEST_SECONDS = 6 * 3600
"""Time after which the cluster itself ends a carrier that nobody removed."""
_TAKEN_OVER = (
    *("nodeSelector", "tolerations", "affinity", "imagePullSecrets", "serviceAccountName"),
    *("priorityClassName", "runtimeClassName", "schedulerName", "securityContext"),
)
_RESOURCES = {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": "1", "memory": "512Mi"}}


@dataclass(frozen=True)
class Place:
    """A claim and how to reach it."""

    claim: str
    image: str
    """An image that holds `unisd`."""
    sub_path: str | None = None
    """Folder in the claim that stands for its root."""
    like: Object | None = None
    """Pod template of a Job that mounts the same claim."""
    owner: Object | None = None
    """Owner reference of the pod, so that it never outlives its run."""


def carrier_pod(place: Place, *, read_only: bool) -> dict[str, Any]:
    """The pod; its name is the API server's to make."""
    like = place.like or {}
    label = {key: value for key, value in like.get("metadata", {}).get("labels", {}).items() if key == CLAIM}
    metadata = {
        "generateName": "unisd-carrier-",
        "labels": {"app.kubernetes.io/name": "unisd-carrier", **label},
        "ownerReferences": [place.owner] if place.owner else [],
    }
    security = {
        "runAsNonRoot": True,
        "fsGroup": 1000,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    taken = {key: value for key, value in like.get("spec", {}).items() if key in _TAKEN_OVER}
    spec = {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": LONGEST_SECONDS,
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": security,
        **taken,
        "containers": [_container(place, read_only)],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": place.claim}}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _container(place: Place, read_only: bool) -> dict[str, Any]:
    mount = {"name": "data", "mountPath": CLAIM_ROOT, "readOnly": read_only}
    return {
        "name": CONTAINER,
        "image": place.image,
        "command": ["sleep", str(LONGEST_SECONDS)],
        "resources": _RESOURCES,
        "volumeMounts": [{**mount, "subPath": place.sub_path} if place.sub_path else mount],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }
