"""What a Workload's owner tells it."""

import asyncio
from typing import Any

from unisd_operator.cluster.client import ConflictError
from unisd_operator.cluster.kueue import finish, pods_ready, release

OLD = "2026-01-01T00:00:00Z"


class Kueue:
    """Holds one Workload."""

    def __init__(self, **conditions: tuple[str, str]) -> None:
        self.conditions = [
            {"type": name, "status": status, "reason": reason, "message": "", "lastTransitionTime": OLD}
            for name, (status, reason) in conditions.items()
        ]
        self.patches: list[Any] = []
        self.gone = self.changed = False

    async def list(self, kind: str, namespace: str, **query: str) -> list[Any]:
        assert (kind, query) == ("Workload", {"fieldSelector": "metadata.name=w"})
        metadata = {"name": "w", "namespace": "ns", "resourceVersion": "7", "generation": 2}
        return [] if self.gone else [{"metadata": metadata, "status": {"conditions": self.conditions}}]

    async def merge(self, kind: str, namespace: str, name: str, patch: Any, subresource: str) -> None:
        assert (kind, subresource) == ("Workload", "status")
        if self.changed:
            raise ConflictError("changed")
        self.patches.append(patch)

    def told(self) -> dict[str, tuple[str, str]]:
        (patch,) = self.patches
        assert patch["metadata"] == {"resourceVersion": "7"}
        return {one["type"]: (one["status"], one["reason"]) for one in patch["status"]["conditions"]}


def tell(what: Any, kueue: Kueue) -> None:
    asyncio.run(what(kueue, "ns", "w"))


def test_conditions_of_others_stay() -> None:
    kueue = Kueue(QuotaReserved=("True", "QuotaReserved"), Admitted=("True", "Admitted"))
    tell(pods_ready, kueue)
    told = kueue.told()
    assert told["PodsReady"][0] == "True"
    assert told["QuotaReserved"] == ("True", "QuotaReserved")
    assert "admission" not in kueue.patches[0]["status"]


def test_the_time_of_a_change_stands_where_nothing_changes() -> None:
    kueue = Kueue(Finished=("True", "Succeeded"))
    tell(finish, kueue)
    (condition,) = kueue.patches[0]["status"]["conditions"]
    assert condition["lastTransitionTime"] == OLD


def test_quota_is_given_back_and_the_workload_queues_again() -> None:
    kueue = Kueue(QuotaReserved=("True", "QuotaReserved"), Admitted=("True", "Admitted"), Evicted=("True", "Preempted"))
    tell(release, kueue)
    told = kueue.told()
    assert kueue.patches[0]["status"]["admission"] is None
    assert (told["QuotaReserved"], told["Admitted"]) == (("False", "Pending"), ("False", "NoReservation"))
    assert told["Requeued"] == ("True", "Preempted")


def test_a_workload_that_kueue_holds_back_is_not_queued_by_us() -> None:
    kueue = Kueue(QuotaReserved=("True", "QuotaReserved"), Evicted=("True", "DeactivatedDueToRequeuingLimitExceeded"))
    tell(release, kueue)
    assert kueue.told()["Requeued"] == ("False", "DeactivatedDueToRequeuingLimitExceeded")


def test_what_has_been_released_is_not_released_again() -> None:
    for conditions in ({"Evicted": ("False", "QuotaReserved")}, {"QuotaReserved": ("False", "Pending")}):
        evicted = {"QuotaReserved": ("True", "QuotaReserved"), "Evicted": ("True", "Preempted")}
        kueue = Kueue(**{**evicted, **conditions})
        tell(release, kueue)
        assert kueue.patches == []


def test_the_time_to_be_ready_counts_anew_after_an_eviction() -> None:
    kueue = Kueue(QuotaReserved=("True", "QuotaReserved"), Evicted=("True", "Preempted"), PodsReady=("True", "Started"))
    tell(release, kueue)
    assert kueue.told()["PodsReady"] == ("False", "WaitForStart")


def test_a_workload_that_is_gone_or_has_changed_is_left_to_the_next_turn() -> None:
    gone, changed = Kueue(), Kueue()
    gone.gone = changed.changed = True
    tell(finish, gone)
    tell(finish, changed)
    assert gone.patches == changed.patches == []
