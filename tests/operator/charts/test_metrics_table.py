"""docs/operator/metrics.md is what the operator serves: names, types and labels, both ways."""

import re
from pathlib import Path

from unisd_operator.api.status import Component, Failure, PolicyVersion, Progress, Rollout, Score, Status, Waiting
from unisd_operator.metrics import Metrics

TABLE = Path(__file__).parents[3] / "docs" / "operator" / "metrics.md"
ROW = re.compile(r"^\| `(unisd_[a-z_]+)` \| (\w+) \|([^|]*)\|", re.MULTILINE)


def _documented() -> dict[str, tuple[str, frozenset[str]]]:
    rows = ROW.findall(TABLE.read_text(encoding="utf-8"))
    return {name: (kind, frozenset(labels.replace(" ", "").split(",")) - {""}) for name, kind, labels in rows}


def _served() -> dict[str, tuple[str, frozenset[str]]]:
    metrics = Metrics("0.1.0", leads=lambda: True)
    full = Component(
        name="star-1",
        component="star",
        seed=1,
        phase="Failed",
        progress=Progress(step=1, total_steps=2, estimated_remaining_seconds=3),
        rollout=Rollout(ready=1, desired=1),
        policy_version=PolicyVersion(trainer=1, rollout=1),
        evaluations=[Score(task="gsm8k", metric=f"m{index}", score=0.5) for index in range(64)],
        waiting=Waiting(reason="Queued"),
        failure=Failure(reason="OOMKilled", message="no memory"),
    )
    metrics.update(("team-a", "qwen"), Status(components=[full]))
    found: dict[str, tuple[str, frozenset[str]]] = {}
    series = 0
    for family in metrics.registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = frozenset(label for sample in family.samples for label in sample.labels) - {"le"}
        found[name] = family.type, labels
        series += len(family.samples) if "component" in labels else 0
    assert series <= 25, "series of one component in which everything is known"
    return found


def test_table_and_metrics_are_the_same() -> None:
    assert _documented() == _served()
