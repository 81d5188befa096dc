"""A run that is to be pushed to a hub ends when that is done."""

import json

from tests.operator.status.lab import SCORES, Lab, new

HUB = {"hub": {"repository": "me/exp"}}


def evaluated() -> Lab:
    """A run whose only component has its scores."""
    lab = new(outputs=HUB).evaluating()
    lab.end("evaluate", "c-1", SCORES)
    lab.look(10)
    return lab


def test_report_and_push_close_the_run_together() -> None:
    lab = evaluated()
    assert [(s.name, s.phase) for s in lab.status.stages[1:]] == [("report", "Starting"), ("push", "Starting")]
    lab.job("report", succeeded=True)
    assert lab.look(10).phase == "Reporting"
    lab.job("push", succeeded=True)
    assert lab.look(10).phase == "Succeeded"


def test_a_token_that_the_hub_refuses_fails_the_run_with_its_words() -> None:
    lab = evaluated()
    lab.job("report", succeeded=True)
    lab.job("push")
    said = json.dumps({"failure": {"reason": "BadInput", "message": "me/exp-c-1 was not pushed"}})
    lab.pod("push", phase="Failed", container={"exit_code": 65, "terminated_message": said, "ended": lab.now})
    status = lab.look(10)
    assert (status.phase, status.reason) == ("Failed", "BadInput")
    failure = lab.stage("push").failure
    assert failure is not None
    assert "was not pushed" in failure.message
    assert lab.arm().phase == "Succeeded"


def test_a_hub_that_is_away_is_tried_again() -> None:
    lab = evaluated()
    lab.job("push")
    lab.pod("push", phase="Failed", container={"exit_code": 1, "ended": lab.now})
    lab.look(10)
    assert (lab.stage("push").phase, lab.stage("push").attempt) == ("Pending", 2)


def test_without_a_hub_there_is_no_push() -> None:
    assert [stage.name for stage in new().look().stages] == ["prepare", "report"]
