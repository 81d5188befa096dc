"""What the watches have told, by run: filled by `handlers`, and by the answers to our own writes; read by `reconcile`.

Events may come late: an answer of the API server to an apply is taken in at once, and older versions of an object that
arrive after it are passed over. So nothing is written twice although the watch lags. Specifications are kept as bytes,
which take a tenth of the memory of parsed ones.
"""

import json
from collections import deque
from collections.abc import Iterator, Set
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from unisd_operator.api.names import KIND, RUN_UID, Object
from unisd_operator.api.resource import Key, RunResource, read_resource
from unisd_operator.cluster.observe import child_state, pod_state
from unisd_operator.observed import Answer, ChildState, PodState

_Owner = tuple[str, str]
"""Namespace and uid of a run: a label of another namespace's object says nothing of it."""

_REMEMBERED_DELETIONS = 10_000


class _Run(NamedTuple):
    uid: str
    version: int
    body: bytes


class _Child(NamedTuple):
    uid: str
    version: int
    state: ChildState | PodState
    spec: bytes | None


@dataclass
class Notes:
    """What was learnt of one run otherwise than by watching; lost with the process, and learnt again."""

    answers: dict[str, Answer] = field(default_factory=dict)
    """By arm or stage."""
    log_tails: dict[str, str] = field(default_factory=dict)
    """By `pod/container`."""
    log_keys: set[tuple[str, str, int]] = field(default_factory=set)
    """Pod uid, container, restarts of the logs that were read."""
    refused: dict[str, str] = field(default_factory=dict)
    """By arm or stage."""
    events: dict[str, str] = field(default_factory=dict)
    """By uid of a Job without pods, or of a pod that does not start: its newest Event about that."""
    asked: dict[str, float] = field(default_factory=dict)
    """By the same uid: when its Events were read, seconds of the monotonic clock."""
    secrets: dict[str, tuple[str, float]] = field(default_factory=dict)
    """By name: hash of the Secret applied last, and when, seconds of the monotonic clock."""
    foreign_claim: bool = False
    claim_modes: tuple[str, ...] = ()
    """Of an existing claim that the run was given, once it was seen: they never change."""
    written: float = float("-inf")
    """When status was written last, seconds of the monotonic clock."""

    def forget_all_but(self, pods: Set[str], uids: Set[str]) -> None:
        """Forgets what was learnt of pods and Jobs that are gone.

        Args:
            pods: names of the pods that are there.
            uids: uids of everything that is there.
        """
        self.log_tails = {name: text for name, text in self.log_tails.items() if name.partition("/")[0] in pods}
        self.log_keys = {key for key in self.log_keys if key[0] in uids}
        self.events = {uid: text for uid, text in self.events.items() if uid in uids}
        self.asked = {uid: when for uid, when in self.asked.items() if uid in uids}


class Store:
    """All runs and their children.

    Args:
        gpu_resource: extended resource that stands for a GPU.
    """

    def __init__(self, gpu_resource: str) -> None:
        self.served: frozenset[str] | None = None
        """Which of the kinds that may come late are installed; None until that was asked."""
        self._gpu_resource = gpu_resource
        self._runs: dict[Key, _Run] = {}
        self._keys: dict[str, Key] = {}
        self._children: dict[_Owner, dict[tuple[str, str], _Child]] = {}
        self._notes: dict[str, Notes] = {}
        self._deleted: deque[str] = deque(maxlen=_REMEMBERED_DELETIONS)
        self._deleted_set: set[str] = set()

    def put_run(self, body: Object) -> bool:
        """Takes in a run, unless this version of it or a newer one is known; whether it was new."""
        metadata = body["metadata"]
        key = (metadata["namespace"], metadata["name"])
        known = self._runs.get(key)
        version = int(metadata["resourceVersion"])
        if metadata["uid"] in self._deleted_set or (known and known.version >= version):
            return False
        if known and known.uid != metadata["uid"]:
            self._forget(known.uid)
        slim = {**body, "metadata": {name: value for name, value in metadata.items() if name != "managedFields"}}
        self._runs[key] = _Run(metadata["uid"], version, json.dumps(slim, separators=(",", ":")).encode())
        self._keys[metadata["uid"]] = key
        return True

    def remove_run(self, body: Object) -> None:
        """Forgets a run that was deleted."""
        metadata = body["metadata"]
        key = (metadata["namespace"], metadata["name"])
        self._remember(metadata["uid"])
        if key in self._runs and self._runs[key].uid == metadata["uid"]:
            del self._runs[key]
        self._forget(metadata["uid"])

    def put(self, kind: str, body: Object) -> Key | None:
        """Takes in a child, unless this version of it or a newer one is known; the key of its run, if it was new."""
        metadata = body["metadata"]
        run = metadata.get("labels", {}).get(RUN_UID)
        if run is None or metadata["uid"] in self._deleted_set:
            return None
        owner = (metadata["namespace"], run)
        children = self._children.setdefault(owner, {})
        known = children.get((kind, metadata["name"]))
        version = int(metadata["resourceVersion"])
        if known is not None and known.uid == metadata["uid"] and known.version >= version:
            return None
        children[kind, metadata["name"]] = self._child(kind, body, version)
        return self._key(owner)

    def remove(self, kind: str, body: Object) -> Key | None:
        """Forgets a child that was deleted; the key of its run, if that is known."""
        metadata = body["metadata"]
        self._remember(metadata["uid"])
        owner = (metadata["namespace"], metadata.get("labels", {}).get(RUN_UID, ""))
        self._drop(owner, kind, metadata["name"], metadata["uid"])
        return self._key(owner)

    def mark_deleting(self, run: RunResource, child: ChildState) -> None:
        """Takes note that the deletion of a child was accepted."""
        kin, place = self._kin(run.uid), (child.kind, child.name)
        known = kin.get(place)
        if known is not None and known.uid == child.uid and isinstance(known.state, ChildState):
            kin[place] = known._replace(state=replace(known.state, deleting=True))

    def all_keys(self) -> list[Key]:
        """All runs."""
        return list(self._runs)

    def run(self, key: Key) -> RunResource | None:
        """A run as it was last seen."""
        known = self._runs.get(key)
        return None if known is None else read_resource(json.loads(known.body))

    def notes(self, uid: str) -> Notes:
        """What was learnt of a run otherwise; of one that is gone nothing is kept."""
        return self._notes.setdefault(uid, Notes()) if uid in self._keys else Notes()

    def knows(self, uid: str) -> bool:
        """Whether a run is there."""
        return uid in self._keys

    def children(self, uid: str) -> tuple[ChildState, ...]:
        """Children of a run other than pods."""
        found = self._kin(uid).values()
        return tuple(_whole(child) for child in found if isinstance(child.state, ChildState))

    def pods(self, uid: str) -> tuple[PodState, ...]:
        """Pods of a run."""
        return tuple(c.state for c in self._kin(uid).values() if isinstance(c.state, PodState))

    def all_pods(self) -> Iterator[tuple[Key, str, PodState]]:
        """Every pod of a known run, with the run's key and uid."""
        for uid, key in list(self._keys.items()):
            for pod in self.pods(uid):
                yield key, uid, pod

    def uids(self, kind: str) -> set[str]:
        """uids of all children of a kind, or of all runs."""
        if kind == KIND:
            return set(self._keys)
        return {child.uid for kin in self._children.values() for (its, _), child in kin.items() if its == kind}

    def retain(self, kind: str, before: set[str], seen: frozenset[str]) -> set[Key]:
        """Forgets what was known before a list was asked for and is not on it; keys of the runs concerned.

        A watch that had to begin anew says nothing of what was deleted meanwhile.
        """
        gone = before - seen
        changed: set[Key] = set()
        if kind == KIND:
            for uid in gone & set(self._keys):
                changed.add(self._keys[uid])
                self._runs.pop(self._keys[uid], None)
                self._forget(uid)
            return changed
        for owner, kin in list(self._children.items()):
            for (its, name), child in list(kin.items()):
                if its == kind and child.uid in gone:
                    self._drop(owner, kind, name, child.uid)
                    key = self._key(owner)
                    changed |= {key} if key is not None else set()
        return changed

    def _key(self, owner: _Owner) -> Key | None:
        """The key of a run, if it is known and of this namespace."""
        key = self._keys.get(owner[1])
        return key if key is not None and key[0] == owner[0] else None

    def _kin(self, uid: str) -> dict[tuple[str, str], _Child]:
        """The children of a known run, in its own namespace."""
        key = self._keys.get(uid)
        return self._children.get((key[0], uid), {}) if key is not None else {}

    def _child(self, kind: str, body: Object, version: int) -> _Child:
        if kind == "Pod":
            return _Child(body["metadata"]["uid"], version, pod_state(body, self._gpu_resource), None)
        state = child_state(kind, body)
        spec = None if state.spec is None else json.dumps(state.spec, separators=(",", ":")).encode()
        return _Child(state.uid, version, replace(state, spec=None), spec)

    def _drop(self, owner: _Owner, kind: str, name: str, uid: str) -> None:
        kin = self._children.get(owner, {})
        if (kind, name) in kin and kin[kind, name].uid == uid:
            del kin[kind, name]
        if not kin:
            self._children.pop(owner, None)

    def _forget(self, uid: str) -> None:
        self._keys.pop(uid, None)
        self._notes.pop(uid, None)

    def _remember(self, uid: str) -> None:
        """An answer of ours that comes after the deletion must not bring the object back."""
        if len(self._deleted) == self._deleted.maxlen:
            self._deleted_set.discard(self._deleted[0])
        self._deleted.append(uid)
        self._deleted_set.add(uid)


def _whole(child: _Child) -> ChildState:
    state = child.state
    assert isinstance(state, ChildState)
    return state if child.spec is None else replace(state, spec=json.loads(child.spec))
