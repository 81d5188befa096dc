"""What watches tell, in whatever order it comes."""

from typing import Any

from unisd_operator.cluster.store import Store
from unisd_operator.observed import Answer

from tests.operator.cluster.test_observe import body

KEY = ("ns", "exp")
SPEC = {"model": {"name": "m"}, "task": {"name": "gsm8k"}, "components": [{"name": "raw", "preset": "raw"}]}


def run(version: int, uid: str = "run", **status: Any) -> dict[str, Any]:
    metadata = {"name": "exp", "namespace": "ns", "uid": uid, "resourceVersion": str(version)}
    metadata["creationTimestamp"] = "2026-01-01T00:00:00Z"
    kind = {"apiVersion": "unisd.dev/v1alpha1", "kind": "SelfDistillRun"}
    return {**kind, "metadata": metadata, "spec": SPEC, "status": status}


def child(version: int, uid: str = "c", kind: str = "Service", **more: Any) -> dict[str, Any]:
    labels = {"unisd.dev/run-uid": "run", "unisd.dev/role": "rollout"}
    return body(
        kind, spec={"containers": [], "version": version}, uid=uid, labels=labels, resourceVersion=str(version), **more
    )


def store() -> Store:
    made = Store("nvidia.com/gpu")
    made.put_run(run(5))
    return made


def versions(of: Store) -> list[Any]:
    return [found.spec["version"] for found in of.children("run") if found.spec]


def test_a_run_is_read_as_it_was_last_seen() -> None:
    known = store()
    assert known.put_run(run(7, phase="Running"))
    assert not known.put_run(run(7, phase="Running"))
    assert not known.put_run(run(6, phase="Pending"))
    found = known.run(KEY)
    assert found is not None
    assert (found.status.phase, found.resource_version) == ("Running", "7")
    assert found.run is not None
    assert known.run(("ns", "other")) is None


def test_events_that_come_late_are_passed_over() -> None:
    known = store()
    assert known.put("Service", child(10)) == KEY
    assert known.put("Service", child(9)) is None
    assert known.put("Service", child(10)) is None
    assert versions(known) == [10]
    assert known.put("Service", child(11)) == KEY
    assert versions(known) == [11]


def test_an_object_of_another_namespace_is_no_child_whatever_its_labels_say() -> None:
    known = store()
    known.put("Service", child(10))
    assert known.put("Service", child(20, uid="forged", namespace="theirs")) is None
    assert known.remove("Service", child(21, uid="forged", namespace="theirs")) is None
    assert versions(known) == [10]


def test_a_deleted_child_does_not_come_back_with_a_late_answer() -> None:
    known = store()
    known.put("Service", child(10))
    assert known.remove("Service", child(12)) == KEY
    known.put("Service", child(11))
    assert versions(known) == []
    known.put("Service", child(13, uid="another"))
    assert versions(known) == [13]


def test_the_deletion_of_an_older_namesake_leaves_the_newer_one() -> None:
    known = store()
    known.put("Service", child(10, uid="new"))
    known.remove("Service", child(12, uid="old"))
    assert versions(known) == [10]


def test_a_child_that_is_being_deleted_is_known_as_such_at_once() -> None:
    known = store()
    known.put("Service", child(10))
    found = known.run(KEY)
    assert found is not None
    known.mark_deleting(found, known.children("run")[0])
    assert known.children("run")[0].deleting


def test_pods_and_other_children_are_told_apart() -> None:
    known = store()
    known.put("Pod", child(10, kind="Pod", uid="p"))
    known.put("Service", child(11))
    assert [pod.uid for pod in known.pods("run")] == ["p"]
    assert [found.uid for found in known.children("run")] == ["c"]
    assert [(key, uid) for key, uid, _ in known.all_pods()] == [(KEY, "run")]


def test_what_a_list_does_not_hold_is_forgotten_unless_it_came_afterwards() -> None:
    known = store()
    known.put("Service", child(10, uid="gone", name="a"))
    known.put("Service", child(10, uid="kept", name="b"))
    before = known.uids("Service")
    known.put("Service", child(20, uid="newer", name="c"))
    assert known.retain("Service", before, frozenset({"kept"})) == {KEY}
    assert sorted(found.uid for found in known.children("run")) == ["kept", "newer"]


def test_a_run_that_a_list_does_not_hold_is_forgotten() -> None:
    known = store()
    assert known.retain("SelfDistillRun", known.uids("SelfDistillRun"), frozenset()) == {KEY}
    assert known.all_keys() == []


def test_a_new_run_of_the_same_name_starts_without_what_was_noted() -> None:
    known = store()
    known.notes("run").answers["star-1"] = Answer(time=None)  # type: ignore[arg-type]
    known.put_run(run(9, uid="second"))
    assert known.notes("second").answers == {}
    known.remove_run(run(10, uid="run"))
    found = known.run(KEY)
    assert found is not None
    assert found.uid == "second"


def test_children_without_a_known_run_wait_for_it() -> None:
    known = Store("nvidia.com/gpu")
    assert known.put("Service", child(10)) is None
    known.put_run(run(5))
    assert versions(known) == [10]
