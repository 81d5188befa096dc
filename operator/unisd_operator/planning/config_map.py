"""The frozen manifest of an attempt: what its pods read at /etc/unisd/run.json. Pure.

It says what to compute and nothing of the cluster: no pods, images, storage or deadlines, so that what may change while
a run lives never stands in it, and no environment of a pod is copied. Paths are those that pods see.
"""

import json
from collections.abc import Callable
from typing import Any

from unisd.config.load import plain
from unisd.config.names import CLAIM_ROOT
from unisd_operator.api.names import Object
from unisd_operator.api.resource import RunResource
from unisd_operator.planning.metadata import Attempt, content_hash, make
from unisd_operator.planning.storage import MODEL

FOLDER = "/etc/unisd"
MANIFEST = f"{FOLDER}/run.json"
_ROWS = "rows.jsonl"

_OF_CLUSTER = frozenset({"image", "resources", "resourcesPerNode", "pod"})
_LEFT_OUT = frozenset(
    {
        "preparation",
        "storage",
        "queueName",
        "suspend",
        "parallelism",
        "backoffLimit",
        "activeDeadlineSeconds",
        "preRunningDeadlineSeconds",
        "progressDeadlineSeconds",
        "ttlSecondsAfterFinished",
    }
)
_OF_OTHERS = frozenset({"components", "seeds", "training", "outputs"})
"""What an arm's result does not depend on, or only by what it resolves to for that arm."""


def config_map(attempt: Attempt) -> Object:
    """The ConfigMap of an attempt."""
    text = json.dumps(frozen_manifest(attempt.run), indent=1, ensure_ascii=False) + "\n"
    body = {"immutable": True, "data": {"run.json": text}}
    return make(attempt, "v1/ConfigMap", attempt.name("config"), "config", body)


def frozen_manifest(run: RunResource) -> dict[str, Any]:
    """The manifest that the run's pods read."""
    assert run.run is not None, "only valid runs are planned"
    manifest = plain(run.run)
    spec = {name: _computing(value) for name, value in manifest["spec"].items() if name not in _LEFT_OUT}
    spec["model"] = _model(spec["model"])
    spec["task"] = _with_paths(spec["task"], "source", _source)
    if "outputs" in spec:
        spec["outputs"] = _outputs(spec["outputs"])
    if "evaluation" in spec:
        spec["evaluation"] = _with_paths(spec["evaluation"], "sources", lambda given: [_source(one) for one in given])
    return {**manifest, "metadata": {"name": run.name}, "spec": spec}


def config_hash(run: RunResource, arm: str) -> str:
    """Hash of everything that an arm's result depends on: its own resolved configuration and what all arms share."""
    resolved = next(found for found in run.arms if found.name == arm)
    spec = frozen_manifest(run)["spec"]
    shared = {name: value for name, value in spec.items() if name not in _OF_OTHERS}
    return content_hash([resolved.model_dump(mode="json", by_alias=True), shared])


def volume(attempt: Attempt) -> tuple[Object, Object]:
    """Volume and mount of the manifest, and of rows that lie in a ConfigMap of the user's."""
    sources: list[Object] = [{"configMap": {"name": attempt.name("config")}}]
    source = attempt.run.spec.task.source
    if source is not None and source.config_map is not None:
        items = [{"key": source.config_map.key, "path": _ROWS}]
        sources.append({"configMap": {"name": source.config_map.name, "items": items}})
    mount = {"name": "config", "mountPath": FOLDER, "readOnly": True}
    return {"name": "config", "projected": {"sources": sources}}, mount


def _computing(block: Any) -> Any:
    """A block of the spec without what it says to the cluster."""
    if not isinstance(block, dict):
        return block
    return {name: value for name, value in block.items() if name not in _OF_CLUSTER}


def _model(model: dict[str, Any]) -> dict[str, Any]:
    if model.get("claim") is not None:
        rest = {name: value for name, value in model.items() if name != "claim"}
        return {"path": _below(MODEL, model["claim"]["path"]), **rest}
    if model.get("path") is not None:
        return {**model, "path": _below(CLAIM_ROOT, model["path"])}
    return model


def _outputs(outputs: dict[str, Any]) -> dict[str, Any]:
    """Where results go, without the name of the Secret that lets them."""
    hub = outputs.get("hub") or {}
    return {"hub": {name: value for name, value in hub.items() if name != "token"}} if hub else {}


def _with_paths(block: dict[str, Any], field: str, as_pods_see: Callable[[Any], Any]) -> dict[str, Any]:
    """A block whose field names files, with their paths as pods see them."""
    return block if block.get(field) is None else {**block, field: as_pods_see(block[field])}


def _source(source: dict[str, Any]) -> dict[str, Any]:
    if source.get("configMap") is not None:
        return {"path": f"{FOLDER}/{_ROWS}"}
    if source.get("path") is not None:
        return {**source, "path": _below(CLAIM_ROOT, source["path"])}
    return source


def _below(folder: str, path: str) -> str:
    """A path of the user's, as pods see it: those in a claim are relative to its root."""
    return f"{folder}/{path.lstrip('/')}"
