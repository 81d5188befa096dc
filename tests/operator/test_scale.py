"""Requirement O10 at a small size, without its times: `make bench-operator` has those."""

import pytest

from bench.controller import Options, measure


@pytest.mark.cluster
@pytest.mark.parametrize("train", [False, True])
def test_each_child_is_written_once_and_nothing_when_nothing_changes(train: bool) -> None:
    found = measure(20, Options(train=train, settle=8.0, resync=4.0))
    assert found.again == {}
    assert found.idle == ()
    kinds = {name.partition("/")[0] for name in found.written}
    assert kinds >= {"jobs", "configmaps", "persistentvolumeclaims", *({"deployments"} if train else ())}
    jobs = [name for name in found.written if name.startswith("jobs/")]
    assert len(jobs) == 20 * (1 + train * (1 + 4)), "preparation; contexts and four components"
