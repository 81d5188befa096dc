"""Results out of a run's claim, own data into one. Called by `unisd fetch` and `unisd upload`.

Paths inside a run's directory are known to `unisd pack`, which runs in the cluster, where attempts can be seen.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from unisd.config.names import API_VERSION, CLAIM_ROOT, KIND, TRAINER_IMAGE, run_directory
from unisd.parcel import ParcelError, pack, size_of, unpack
from unisd.remote.carrier import Place
from unisd.remote.cluster import Cluster, ClusterError
from unisd.remote.transfer import carrier
from unisd.sealed import fault_of

REPORT = "report"


@dataclass(frozen=True)
class How:
    """How to get at a claim."""

    image: str | None = None
    """Image of the pod; None: that of the run, else this release's."""
    timeout: float = 300.0
    """Time for the pod to run, seconds."""


def wanted(run: dict[str, Any], component: str | None, report: bool) -> list[str]:
    """What to bring: the component asked for, the report asked for, else all that there is.

    Raises:
        ClusterError: it is not there, or not yet.
    """
    status = run.get("status", {})
    trained = [arm["name"] for arm in status.get("components", []) if arm.get("trainedTime")]
    told = [REPORT for stage in status.get("stages", []) if stage["name"] == REPORT and stage["phase"] == "Succeeded"]
    asked = [name for name in (component, REPORT if report else None) if name is not None]
    for name in asked:
        if name not in (*trained, *told):
            raise ClusterError(_not_there(run, name))
    if not asked and not (trained or told):
        raise ClusterError(f"run {run['metadata']['name']} has neither a trained component nor a report yet")
    return asked or [*trained, *told]


def fetch(cluster: Cluster, run: dict[str, Any], names: Sequence[str], to: Path, how: How) -> Iterator[str]:
    """Brings adapters and the report into folders of their names below `to`; a line for each.

    Raises:
        ClusterError: something is there already, is broken, or the cluster does not give it out.
    """
    for name in names:
        if (to / name).exists():
            raise ClusterError(f"{to / name} is there already: remove it, or give another --to")
    directory = run_directory(run["metadata"]["uid"])
    with carrier(cluster, _place(cluster, run, how), read_only=True, timeout=how.timeout) as pod:
        for name in names:
            arm = [] if name == REPORT else ["--arm", name]
            with pod.run("unisd", "pack", "--directory", directory, *arm) as session:
                _unpack_whole(session, to / name, sealed=name != REPORT)
            files, size = size_of(to / name)
            yield f"{name}: {files} files, {size / 1e6:.1f} MB in {to / name}"


def upload(cluster: Cluster, source: Path, target: str, to: str, how: How) -> str:
    """Takes a file or folder into the claim of a run, or into a claim, as `to`; returns a line that says so.

    Raises:
        ClusterError: no such claim, something is there already, or the cluster does not take it.
    """
    path = PurePosixPath(to)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ClusterError(f"--to {to} must be a path below the claim's root, such as data/rows.jsonl")
    run = cluster.find_run(target)
    place = Place(target, how.image or TRAINER_IMAGE) if run is None else _place(cluster, run, how)
    if not cluster.has_claim(place.claim):
        raise ClusterError(
            f"no claim {place.claim} in namespace {cluster.namespace}: make one, and name it in the run as "
            "spec.storage.existingClaim (a run makes its own only when it starts)"
        )
    with (
        carrier(cluster, place, read_only=False, timeout=how.timeout) as pod,
        pod.run("unisd", "unpack", "--to", f"{CLAIM_ROOT}/{path}", reads=True) as session,
    ):
        pack(source, cast("BinaryIO", session))
        session.finish()
    return f"{source} is in claim {place.claim} as {path}"


def _unpack_whole(session: Any, target: Path, *, sealed: bool) -> None:
    unpack(session, target)
    fault = fault_of(target) if sealed else None
    if fault is not None:
        raise ParcelError(f"{target} is not whole: {fault}")


def _place(cluster: Cluster, run: dict[str, Any], how: How) -> Place:
    """The claim of a run, reached by a pod like those of the run."""
    metadata, storage = run["metadata"], run["spec"].get("storage", {})
    status = run.get("status", {})
    images = [stage["image"] for stage in status.get("stages", []) if stage.get("image")]
    owner = {"apiVersion": API_VERSION, "kind": KIND, "name": metadata["name"], "uid": metadata["uid"]}
    return Place(
        claim=storage.get("existingClaim") or status.get("claim") or metadata["name"],
        image=how.image or (images[0] if images else TRAINER_IMAGE),
        sub_path=storage.get("subPath"),
        like=cluster.pod_template(metadata["uid"]),
        owner=owner,
    )


def _not_there(run: dict[str, Any], name: str) -> str:
    """Why something cannot be brought."""
    status, of_run = run.get("status", {}), f"run {run['metadata']['name']}"
    entries = {entry["name"]: entry for entry in [*status.get("stages", []), *status.get("components", [])]}
    if name not in entries or name in ("prepare", "contexts"):
        arms = ", ".join(arm["name"] for arm in status.get("components", [])) or "none yet"
        return f"{of_run} has no component {name}; it has {arms}"
    if name == REPORT:
        return f"{of_run} has no report yet: its report is {entries[name]['phase']}"
    return f"{name} of {of_run} has no trained weights: it is {entries[name]['phase']}, and raw trains nothing"
