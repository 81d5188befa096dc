"""What is recorded of a stage: one that takes what there is of others is finished until there is more."""

import pytest

from unisd.execution.record import finish, is_finished
from unisd.rundir import RunDir
from unisd.stages import stages


@pytest.mark.parametrize("attempt", [None, 2])
def test_a_report_is_finished_until_more_has_ended_well(make_run, attempt):
    run, directory = make_run(components=[{"name": "raw", "preset": "raw"}, {"name": "sft", "preset": "sft"}])
    directory = RunDir(directory.root, attempt)
    found = {stage.name: stage for stage in stages(run, {})}
    finish(directory, found["evaluate/raw-1"], 1.0)
    finish(directory, found["report"], 1.0)
    assert is_finished(directory, found["report"])
    finish(directory, found["evaluate/sft-1"], 1.0)
    assert is_finished(directory, found["evaluate/sft-1"])
    assert not is_finished(directory, found["report"])
