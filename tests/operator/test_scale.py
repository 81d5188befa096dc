"""Requirement O10 at a small size, without its times: `make bench-operator` has those."""

from collections import Counter

import pytest

from bench.controller import RUNS, Options, measure


@pytest.mark.cluster
@pytest.mark.parametrize("train", [False, True])
def test_each_child_is_written_once_and_nothing_when_nothing_changes(train: bool) -> None:
    found = measure(20, Options(train=train, settle=8.0, resync=4.0))
    assert found.again == {}
    # The GPU time of each of four components that train is written once a minute, and that may be in these seconds.
    assert Counter(found.idle) <= Counter({f"{RUNS}/run-{index:04d}": 4 for index in range(20 * train)})
    kinds = {name.partition("/")[0] for name in found.written}
    assert kinds >= {"jobs", "configmaps", "persistentvolumeclaims", *({"deployments"} if train else ())}
    jobs = [name for name in found.written if name.startswith("jobs/")]
    assert len(jobs) == 20 * (1 + train * (1 + 4)), "preparation; contexts and four components"
