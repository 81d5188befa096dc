"""A run's status as the rows of the table."""

from datetime import UTC, datetime

import pytest
from rich.console import Console

from unisd.local.display import table
from unisd.remote.cluster import Log
from unisd.remote.show import ClusterError, log_lines, show_status
from unisd.remote.status import headline, rows

NOW = datetime(2026, 5, 1, 12, 10, tzinfo=UTC)
RUN = {
    "metadata": {"name": "demo", "uid": "u"},
    "status": {
        "observedGeneration": 1,
        "phase": "Running",
        "conditions": [
            {"type": "Reconciling", "status": "True", "message": "at work"},
            {"type": "WeightsStale", "status": "True", "message": "star-1 lags 4 versions"},
        ],
        "stages": [
            {"name": "prepare", "phase": "Succeeded", "attempt": 1, "startTime": "2026-05-01T12:00:00Z",
             "completionTime": "2026-05-01T12:01:30Z"},
            {"name": "report", "phase": "Pending", "attempt": 1},
        ],
        "components": [
            {"name": "raw-1", "phase": "Succeeded", "attempt": 1, "evaluations": [
                {"task": "cos_e", "metric": "accuracy", "score": 0.25, "low": 0.2, "high": 0.3, "items": 64}], "evaluationsLeftOut": 12},
            {"name": "star-1", "phase": "Training", "attempt": 2, "startTime": "2026-05-01T12:05:00Z",
             "progress": {"step": 5, "totalSteps": 10, "progressPercentage": 50, "estimatedRemainingSeconds": 300},
             "failure": {"reason": "OOMKilled", "message": "too little", "pod": "p", "logTail": "one\ntwo"}},
            {"name": "sft-1", "phase": "Pending", "attempt": 1,
             "waiting": {"reason": "Unschedulable", "message": "0/3 nodes"}},
            {"name": "mute-1", "phase": "Training", "attempt": 2,
             "failure": {"reason": "Evicted", "message": "by whom", "pod": "p"}},
            {"name": "bad-1", "phase": "Failed", "attempt": 1,
             "failure": {"reason": "BadInput", "message": "row 3", "pod": "p", "logTail": "one\ntwo"}},
        ],
    },
}  # fmt: skip


class OneRun:
    """The cluster of one run, without pods unless given."""

    def __init__(self, run, logs=()):
        self.found, self.pods = run, list(logs)

    def run(self, name):
        return self.found

    def logs(self, uid, arm, role):
        return self.pods

    def lines(self, log, *, follow, tail):
        yield f"{log.container} says"


def test_rows_stand_in_the_order_of_time_and_say_what_matters():
    found = {row.name: row for row in rows(RUN, NOW)}
    assert list(found) == ["prepare", "raw-1", "star-1", "sft-1", "mute-1", "bad-1", "report"]
    assert (found["prepare"].phase, found["prepare"].seconds) == ("finished", 90)
    assert found["raw-1"].note == "cos_e accuracy 0.25 [0.2, 0.3]  and 12 more in the report"
    assert (found["star-1"].phase, found["star-1"].seconds) == ("running", 300)
    assert found["star-1"].note == "attempt 2, before: OOMKilled"
    assert found["star-1"].failure is None, "an earlier failure is no failure of what runs now"
    assert found["sft-1"].note == "Unschedulable: 0/3 nodes"
    assert found["bad-1"].failure["reason"] == "BadInput"


def test_the_headline_tells_conditions_that_need_attention():
    assert headline(RUN) == "demo: Running\nWeightsStale: star-1 lags 4 versions"
    assert "not seen by the operator" in headline({"metadata": {"name": "demo"}, "status": {"observedGeneration": -1}})


def test_the_headline_tells_what_two_conditions_say_once():
    conditions = [{"type": kind, "status": "True", "message": "no group"} for kind in ("Stalled", "Failed")]
    status = {"observedGeneration": 1, "phase": "Invalid", "conditions": conditions}
    assert headline({"metadata": {"name": "demo"}, "status": status}) == "demo: Invalid\nStalled, Failed: no group"


def test_the_table_shows_every_row(capsys):
    console = Console(width=140)
    console.print(table(rows(RUN, NOW)))
    told = capsys.readouterr().out
    for word in ("star-1", "5:00", "Unschedulable: 0/3 nodes", "✗ bad-1: BadInput: row 3"):
        assert word in told


def test_a_long_note_gives_way_to_names_and_times(capsys):
    waiting = {"reason": "WaitingForSlot", "message": "spec.parallelism is 2: waits for another component to end"}
    entry = {"name": "agreement-1", "phase": "Pending", "waiting": waiting}
    console = Console(width=80)
    console.print(table(rows({"status": {"stages": [], "components": [entry]}}, NOW)))
    line = capsys.readouterr().out.splitlines()[1]
    assert "agreement-1" in line
    assert "WaitingForSlot" in line
    assert len(line) <= 80


@pytest.mark.parametrize(("phase", "code"), [("Succeeded", 0), ("Running", 0), ("Failed", 1), ("Invalid", 1)])
def test_the_exit_code_says_whether_the_run_failed(phase, code):
    run = {**RUN, "status": {**RUN["status"], "phase": phase}}
    assert show_status(OneRun(run), "demo", Console(quiet=True), watch=phase != "Running") == code


def test_words_of_a_condition_are_shown_as_they_are(capsys):
    conditions = [{"type": "Stalled", "status": "True", "message": "pattern: has no group (got '[/red]')"}]
    run = {**RUN, "status": {"observedGeneration": 1, "phase": "Invalid", "conditions": conditions}}
    show_status(OneRun(run), "demo", Console(width=140), watch=False)
    assert "(got '[/red]')" in capsys.readouterr().out


def told(cluster, component, role="train", **options):
    return list(log_lines(cluster, "demo", component, role, **{"follow": False, "tail": None, **options}))


def test_logs_of_every_container_are_headed_by_its_name():
    cluster = OneRun(RUN, [Log("p-0", "vllm"), Log("p-0", "policy-agent")])
    assert told(cluster, "star-1", "rollout") == [
        "==> p-0 vllm <==", "vllm says", "==> p-0 policy-agent <==", "policy-agent says",
    ]  # fmt: skip
    assert told(OneRun(RUN, [Log("p-0", "train")]), "star-1") == ["train says"]


def test_the_log_of_a_pod_that_is_gone_comes_from_status():
    assert told(OneRun(RUN), "bad-1") == ["==> pod p is gone; the end of its log <==", "one", "two"]


@pytest.mark.parametrize(
    ("component", "message"),
    [
        ("mute-1", "left no log: Evicted: by whom"),
        ("star", "no component star; it has prepare, report, raw-1"),
        ("raw-1", "raw-1 has no train pod"),
    ],
)
def test_what_has_no_log_is_told(component, message):
    with pytest.raises(ClusterError, match=message):
        told(OneRun(RUN), component)
