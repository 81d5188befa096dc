from dataclasses import replace
from typing import Any

import pytest
from unisd_operator.api.status import Status
from unisd_operator.observed import Observed
from unisd_operator.planning import storage, trainer
from unisd_operator.settings import Settings

from tests.operator.planning.world import World, attempt, move, resource, status


def claim(phase: Any = "Running", **spec: Any) -> Any:
    return storage.claim(resource(Status(phase=phase), storage=spec), Observed(), Settings())


def test_a_kept_claim_has_no_owner() -> None:
    assert "ownerReferences" not in claim()["metadata"]
    assert "ownerReferences" not in claim(policy="Retain", phase="Succeeded")["metadata"]


def test_a_claim_to_be_deleted_has_one() -> None:
    (owner,) = claim(policy="Delete")["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("SelfDistillRun", "1234", True)
    assert "blockOwnerDeletion" not in owner


@pytest.mark.parametrize(("phase", "owned"), [("Running", False), ("Failed", False), ("Succeeded", True)])
def test_retain_on_failure_is_decided_when_the_run_completes(phase: str, owned: bool) -> None:
    assert ("ownerReferences" in claim(policy="RetainOnFailure", phase=phase)["metadata"]) == owned


def test_the_owner_is_set_on_the_live_claim_whose_size_stays() -> None:
    world, run = World(), resource(status({"prepare": "Starting"}), storage={"policy": "RetainOnFailure"})
    world.settle(run)
    grown = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "7Ti"}}, "volumeName": "v"}
    world.change("PersistentVolumeClaim", "demo", spec={**grown, "storageClassName": "fast"})
    assert world.plan(run).apply == ()
    done = move(run, Status(phase="Succeeded", stages=status({"prepare": "Succeeded"}).stages))
    (applied,) = world.plan(done).apply
    assert applied["kind"] == "PersistentVolumeClaim"
    assert applied["metadata"]["ownerReferences"]
    assert applied["spec"] == {
        name: value for name, value in {**grown, "storageClassName": "fast"}.items() if name != "volumeName"
    }


def test_a_claim_says_what_the_run_or_the_installation_says() -> None:
    assert claim()["spec"] == {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "120Gi"}}}
    spec = claim(size="5Gi", accessMode="ReadWriteOnce", storageClassName="slow")["spec"]
    assert spec["storageClassName"] == "slow"
    assert spec["resources"]["requests"]["storage"] == "5Gi"
    theirs = storage.claim(resource(), Observed(), Settings(storage_class_name="house"))
    assert theirs["spec"]["storageClassName"] == "house"


def test_an_existing_claim_is_mounted_and_never_made() -> None:
    world = World()
    run = resource(status({"prepare": "Starting"}), storage={"existingClaim": "mine", "subPath": "a/b"})
    world.settle(run)
    assert world.names("PersistentVolumeClaim") == set()
    volumes, mounts = storage.mounts(run, read_only=True)
    assert volumes == [{"name": "data", "persistentVolumeClaim": {"claimName": "mine"}}]
    assert mounts == [{"name": "data", "mountPath": "/data", "subPath": "a/b", "readOnly": True}]


def test_a_foreign_claim_stops_everything() -> None:
    run = resource(status({"prepare": "Starting"}))
    world = World(Observed(foreign_claim=True))
    assert world.plan(run).apply == ()


def test_a_shared_model_is_read_only() -> None:
    volumes, mounts = storage.mounts(resource(model={"claim": {"name": "models", "path": "a"}}), read_only=False)
    assert volumes[1]["persistentVolumeClaim"] == {"claimName": "models", "readOnly": True}
    assert mounts[1] == {"name": "model", "mountPath": "/model", "readOnly": True}


def test_pods_of_a_claim_for_one_node_share_that_node() -> None:
    run = resource(storage={"accessMode": "ReadWriteOnce"})
    template = trainer.pod_template(attempt(run))
    (term,) = template["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert term["topologyKey"] == "kubernetes.io/hostname"
    label = term["labelSelector"]["matchLabels"]
    assert label == {"unisd.dev/claim": "demo"}
    assert label.items() <= template["metadata"]["labels"].items(), "the first pod must match its own term"
    assert "affinity" not in trainer.pod_template(attempt(resource()))["spec"]


@pytest.mark.parametrize(
    ("modes", "together"),
    [
        (("ReadWriteOnce",), True),
        (("ReadWriteOnce", "ReadOnlyMany"), True),
        (("ReadWriteOnce", "ReadWriteMany"), False),
        (("ReadWriteMany",), False),
        ((), False),
    ],
)
def test_pods_of_an_existing_claim_share_a_node_where_its_modes_demand_it(modes: Any, together: bool) -> None:
    run = resource(status({"prepare": "Starting"}, star_1="Starting"), storage={"existingClaim": "mine"})
    planned = World(Observed(claim_modes=modes)).plan(run).apply
    templates = [item["spec"]["template"] for item in planned if item["kind"] in ("Job", "Deployment")]
    assert len(templates) == 3
    for template in templates:
        assert ("podAffinity" in template["spec"].get("affinity", {})) == together
        assert (template["metadata"]["labels"].get("unisd.dev/claim") == "mine") == together


def test_the_modes_of_a_claim_of_its_own_are_the_manifests() -> None:
    run = resource(status({"prepare": "Starting"}), storage={"accessMode": "ReadWriteMany"})
    (job,) = [item for item in World(Observed(claim_modes=("ReadWriteOnce",))).plan(run).apply if item["kind"] == "Job"]
    assert "affinity" not in job["spec"]["template"]["spec"]


def test_a_claim_outlives_the_children_unless_it_goes_with_the_run() -> None:
    for policy, kept in (("Retain", True), ("RetainOnFailure", True), ("Delete", False)):
        world, run = World(), resource(status({"prepare": "Starting"}), storage={"policy": policy})
        world.settle(run)
        expired = replace(run, status=Status(phase="Succeeded", children_expired=True))
        world.settle(expired)
        assert bool(world.names("PersistentVolumeClaim")) == kept
        assert {child.kind for child in world.observed.children} <= {"PersistentVolumeClaim"}
