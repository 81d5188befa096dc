"""A status that another version of the operator wrote: what is not understood is left out, the rest is kept."""

from typing import Any

import pytest
from unisd_operator.api.resource import read_resource
from unisd_operator.api.status import Status

from tests.operator.status.lab import SCORES, Lab, manifest, new


def written() -> dict[str, Any]:
    """The status of a finished run whose children have expired."""
    lab = new(ttlSecondsAfterFinished=0).evaluating()
    lab.end("evaluate", "c-1", SCORES)
    lab.look(1)
    lab.job("report", succeeded=True)
    lab.look(1)
    assert lab.status.children_expired
    return dict(lab.status.model_dump(mode="json", by_alias=True, exclude_none=True))


def read(status: dict[str, Any]) -> Status:
    return read_resource({**manifest({"ttlSecondsAfterFinished": 0}), "status": status}).status


def with_more(status: dict[str, Any]) -> None:
    status["newColumn"] = 3
    status["components"][0]["newField"] = {"a": 1}
    status["components"][0]["evaluations"][0]["newField"] = 1


def with_another_word(status: dict[str, Any]) -> None:
    status["components"][0]["failure"] = {"reason": "BrandNew", "message": "m"}
    status["stages"][0]["waiting"] = {"reason": "BrandNew"}


def with_less(status: dict[str, Any]) -> None:
    del status["components"][0]["evaluations"][0]["metric"]


@pytest.mark.parametrize("change", [with_more, with_another_word, with_less])
def test_a_finished_run_never_begins_again(change: Any) -> None:
    status = written()
    change(status)
    found = read(status)
    assert (found.phase, found.children_expired, found.components[0].phase) == ("Succeeded", True, "Succeeded")
    lab = Lab(read_resource({**manifest({"ttlSecondsAfterFinished": 0}), "status": status}), seconds=10_000)
    lab.look()
    assert (lab.status.phase, lab.stage("report").phase) == ("Succeeded", "Succeeded")


def test_a_status_of_this_version_is_read_whole() -> None:
    status = written()
    assert read(status).model_dump(mode="json", by_alias=True, exclude_none=True) == status


def test_what_is_no_status_at_all_is_a_new_run() -> None:
    assert read({"components": 3, "phase": 7}) == Status()
