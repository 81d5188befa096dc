"""Small objects that pass Pod Security `restricted`, for tests of the cluster itself. Pure."""

from typing import Any


def pod(name: str, gpus: int = 0, **annotations: str) -> dict[str, Any]:
    """A pod that passes `restricted`; annotations of `test.unisd.dev` by their last part, `_` for `-`."""
    security = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container: dict[str, Any] = {"name": "main", "image": "nothing", "securityContext": security}
    if gpus:
        container["resources"] = {"limits": {"nvidia.com/gpu": gpus}}
    marks = {f"test.unisd.dev/{key.replace('_', '-')}": value for key, value in annotations.items()}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "annotations": marks},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }


def job(name: str, gpus: int = 0, **annotations: str) -> dict[str, Any]:
    """A Job of one such pod."""
    found = pod(name, gpus, **annotations)
    template = {"metadata": {"annotations": found["metadata"]["annotations"]}, "spec": found["spec"]}
    spec = {"backoffLimit": 0, "template": template}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}
