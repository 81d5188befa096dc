"""What is scraped, beside the table that promises it."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from unisd_operator.api.status import (
    Component,
    Condition,
    Failure,
    PolicyVersion,
    Progress,
    Rollout,
    Score,
    Status,
    Waiting,
)
from unisd_operator.metrics import MAX_SCORES, Metrics

DOCS = Path(__file__).parents[3] / "docs" / "operator" / "metrics.md"
KEY = ("research", "exp")


def full(name: str, **changes: Any) -> Component:
    """A component with everything that can be shown."""
    scores = [Score(task=f"t{index}", metric="accuracy", score=0.5) for index in range(20)]
    values: dict[str, Any] = {
        "name": name,
        "component": "star",
        "seed": 1,
        "phase": "Failed",
        "failed_attempts": 2,
        "progress": Progress(step=5, total_steps=20, estimated_remaining_seconds=90),
        "rollout": Rollout(ready=1, desired=2),
        "policy_version": PolicyVersion(trainer=5, rollout=3),
        "gpu_seconds": 7200.0,
        "evaluations": scores,
        "waiting": Waiting(reason="Unschedulable"),
        "failure": Failure(reason="OOMKilled", message="killed"),
    }
    return Component(**(values | changes))


def condition(kind: str) -> Condition:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return Condition(type=kind, status="True", observed_generation=1, last_transition_time=now, reason=kind)


def scraped(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(generate_latest(metrics.registry).decode())
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def metrics(leads: bool = True) -> Metrics:
    return Metrics("0.1.0", leads=lambda: leads)


def value(found: Any, name: str, **labels: str) -> float | None:
    result: float | None = found.get((name, frozenset(labels.items())))
    return result


def test_every_metric_of_the_table_is_served_and_no_other() -> None:
    made = metrics()
    made.update(KEY, Status(phase="Running", components=[full("star-1")], conditions=[condition("Stalled")]))
    promised = set(re.findall(r"^\| `(unisd_\w+)`", DOCS.read_text(), re.MULTILINE))
    served = {family.name for family in text_string_to_metric_families(generate_latest(made.registry).decode())}
    totals = {name.removesuffix("_total") for name in promised}
    created = {name for name in served if name.endswith("_created")}
    assert served - created == totals


def test_a_component_has_at_most_25_series() -> None:
    made = metrics()
    made.update(KEY, Status(phase="Running", components=[full("star-1")]))
    of_component = [labels for name, labels in scraped(made) if ("component", "star-1") in labels]
    assert len(of_component) <= 25
    assert sum("task" in dict(labels) for labels in of_component) == MAX_SCORES


def test_values_are_those_of_status() -> None:
    made = metrics()
    made.update(KEY, Status(phase="Running", components=[full("star-1")], conditions=[condition("Complete")]))
    found, where = scraped(made), {"namespace": "research", "run": "exp", "component": "star-1"}
    assert value(found, "unisd_component_progress_ratio", **where) == 0.25
    assert value(found, "unisd_component_policy_lag", **where) == 2
    assert value(found, "unisd_component_gpu_hours", **where) == 2
    assert value(found, "unisd_component_failure", **where, reason="OOMKilled") == 1
    assert value(found, "unisd_run_condition", namespace="research", run="exp", condition="Complete") == 1
    assert value(found, "unisd_run_condition", namespace="research", run="exp", condition="Stalled") == 0
    assert value(found, "unisd_runs", phase="Running") == 1
    assert value(found, "unisd_runs", phase="Failed") == 0


def test_what_is_not_known_is_not_served() -> None:
    made = metrics()
    bare = full("star-1", phase="Pending", progress=None, rollout=None, policy_version=None, waiting=None, failure=None)
    made.update(KEY, Status(phase="Running", components=[bare]))
    names = {name for name, labels in scraped(made) if ("component", "star-1") in labels}
    absent = {"progress_ratio", "remaining_seconds", "policy_lag", "rollout_ready", "waiting", "failure"}
    assert not names & {f"unisd_component_{name}" for name in absent}


def test_a_failure_that_is_tried_again_is_none_yet() -> None:
    made = metrics()
    made.update(KEY, Status(phase="Running", components=[full("star-1", phase="Pending")]))
    assert not [name for name, _ in scraped(made) if name == "unisd_component_failure"]


def test_a_standby_shows_no_runs_and_a_deleted_run_is_gone() -> None:
    standby = metrics(leads=False)
    standby.update(KEY, Status(components=[full("star-1")]))
    assert not [labels for _, labels in scraped(standby) if ("run", "exp") in labels]
    made = metrics()
    made.update(KEY, Status(components=[full("star-1")]))
    made.remove(KEY)
    assert not [labels for _, labels in scraped(made) if ("run", "exp") in labels]
