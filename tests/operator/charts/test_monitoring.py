"""Rules and dashboard, read by the tools that read them: promtool, and a Prometheus that scrapes real metrics."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import start_http_server
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
from unisd_operator.metrics import Metrics

from tests.cluster.binaries import binary
from tests.cluster.waiting import eventually
from tests.operator.charts.rendering import MONITORING, OPERATOR, one, render
from tests.operator.charts.scraping import Prometheus, prometheus
from unisd.metrics.names import STEP_METRICS
from unisd.metrics.progress import Progress as Trained
from unisd.metrics.prometheus import MetricsServer

pytestmark = pytest.mark.cluster
RULES = OPERATOR / "files" / "rules.yaml"
DASHBOARD = json.loads((OPERATOR / "files" / "dashboard.json").read_text(encoding="utf-8"))
NOW = "2026-01-01T00:00:00Z"
WORD = re.compile(r"\bunisd_[a-z_]+\b")


def _promtool(*arguments: str | Path) -> None:
    ended = subprocess.run([binary("promtool"), *arguments], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def _panels() -> Iterator[tuple[str, str]]:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


def _every_expression() -> list[str]:
    rules = [rule["expr"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    return rules + [expression for _, expression in _panels()]


def _chosen(expression: str) -> str:
    """The expression with all of Grafana's variables at All."""
    return re.sub(r"\$(namespace|run|component)\b", ".*", expression)


def test_promtool_accepts_the_rules() -> None:
    _promtool("check", "rules", "--lint=all", "--lint-fatal", RULES)


def test_alerts_fire_when_they_should_and_only_then() -> None:
    _promtool("test", "rules", Path(__file__).parent / "rules_test.yaml")


def test_every_alert_has_a_unit_test() -> None:
    tested = (Path(__file__).parent / "rules_test.yaml").read_text(encoding="utf-8")
    for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]:
        for rule in group["rules"]:
            name = rule.get("alert") or rule["record"]
            assert re.search(rf"\b{re.escape(name)}\b", tested) or name.endswith(":p99_5m"), name


def test_the_chart_puts_rules_and_dashboard_into_objects_unchanged() -> None:
    objects = render(OPERATOR, {"monitoring": MONITORING})

    assert one(objects, "PrometheusRule")["spec"] == yaml.safe_load(RULES.read_text(encoding="utf-8"))
    shown = one(objects, "ConfigMap", "unisd-operator-dashboard")["data"]["unisd.json"]
    assert json.loads(shown) == DASHBOARD


def test_panels_do_not_overlap_and_say_what_they_show() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, panel["title"]
        assert max(x for x, _ in cells) < 24, panel["title"]
        assert panel["type"] == "row" or panel["description"], panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def _status() -> Status:
    """A status in which everything is known that can be known."""
    condition = Condition(
        type="WeightsStale", status="True", observed_generation=1, last_transition_time=NOW, reason="Lag"
    )
    trained = Component(
        name="star-1",
        component="star",
        seed=1,
        phase="Training",
        progress=Progress(step=5, total_steps=10, estimated_remaining_seconds=60),
        rollout=Rollout(ready=1, desired=1),
        policy_version=PolicyVersion(trainer=5, rollout=2),
        evaluations=[Score(task="scienceqa", metric="accuracy", score=0.5)],
        gpu_seconds=7200,
    )
    failed = Component(
        name="sft-1", component="sft", seed=1, phase="Failed", failure=Failure(reason="OOMKilled", message="no memory")
    )
    waiting = Component(name="raw-1", component="raw", seed=1, waiting=Waiting(reason="Unschedulable"))
    return Status(phase="Running", conditions=[condition], components=[trained, failed, waiting])


@pytest.fixture(scope="module")
def scraped() -> Iterator[Prometheus]:
    """A Prometheus that has scraped an operator and a trainer several times."""
    metrics = Metrics("0.1.0", leads=lambda: True)
    metrics.update(("team-a", "qwen"), _status())
    server, thread = start_http_server(0, addr="127.0.0.1", registry=metrics.registry)
    progress = Trained()
    progress.update(5, 10, dict.fromkeys(STEP_METRICS, 1.0))
    trainer = MetricsServer(progress, "star-1")
    trainer.start()
    targets = {
        f"127.0.0.1:{server.server_port}": {"namespace": "unisd-system"},
        f"127.0.0.1:{trainer.port}": {"namespace": "team-a", "run": "qwen", "role": "train"},
    }
    with prometheus(targets, RULES) as running:
        for _ in range(2):
            metrics.reconciles.inc()
            metrics.duration.observe(0.01)
            eventually(lambda: running.query("rate(unisd_reconciles_total[5m])"))
        eventually(lambda: running.query("unisd_train_loss"))
        yield running
    trainer.stop()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(("title", "expression"), list(_panels()), ids=[f"{t}: {e[:40]}" for t, e in _panels()])
def test_every_query_of_the_dashboard_finds_something(scraped: Prometheus, title: str, expression: str) -> None:
    assert eventually(lambda: scraped.query(_chosen(expression))), title


def test_every_metric_that_is_asked_for_is_scraped(scraped: Prometheus) -> None:
    asked = {name for expression in _every_expression() for name in WORD.findall(expression)}
    variables = [variable["definition"] for variable in DASHBOARD["templating"]["list"] if "definition" in variable]
    asked |= {name for definition in variables for name in WORD.findall(definition)}

    for name in sorted(asked):
        assert eventually(lambda name=name: scraped.query(name)), name  # a scrape that was late leaves a gap


def test_runs_keep_their_own_namespace(scraped: Prometheus) -> None:
    (found,) = eventually(lambda: scraped.query("unisd_component_progress_ratio"))

    assert found["metric"]["namespace"] == "team-a"
    leaders = eventually(lambda: scraped.query("unisd_leader"))
    assert {leader["metric"]["namespace"] for leader in leaders} == {"unisd-system"}


def test_rules_are_evaluated_without_error(scraped: Prometheus) -> None:
    def evaluated() -> list[Any]:
        rules = scraped.rules()
        assert all(rule["health"] == "ok" for rule in rules), rules
        return rules

    assert len(eventually(evaluated)) == 17
