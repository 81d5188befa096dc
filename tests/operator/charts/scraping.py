"""A real Prometheus that scrapes metrics served in this process, and answers queries."""

import json
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.binaries import binary
from tests.cluster.processes import Household
from tests.cluster.waiting import eventually
from unisd.listening import free_ports


class Prometheus:
    """A running Prometheus."""

    def __init__(self, url: str) -> None:
        self._url = url

    def query(self, expression: str) -> list[Any]:
        """What an instant query finds; an expression that Prometheus refuses is an error."""
        found: list[Any] = self._get("query", query=expression)["result"]
        return found

    def targets(self) -> list[Any]:
        """Everything that it scrapes."""
        found: list[Any] = self._get("targets")["activeTargets"]
        return found

    def rules(self) -> list[Any]:
        """All rules, with the health of their last evaluation."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def ready(self) -> bool:
        """Whether it answers."""
        try:
            return bool(self._get("status/runtimeinfo"))
        except OSError:
            return False

    def _get(self, what: str, **query: str) -> Any:
        address = f"{self._url}/api/v1/{what}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(address, timeout=10) as answer:
            return json.loads(answer.read())["data"]


@contextmanager
def prometheus(targets: Mapping[str, Mapping[str, str]], rules: Path) -> Iterator[Prometheus]:
    """Scrapes every address of `targets` each second, with its labels, as the chart's monitors do."""
    household = Household("unisd-prometheus-")
    try:
        jobs = [
            {
                "job_name": address,
                "honor_labels": True,
                "static_configs": [{"targets": [address], "labels": dict(labels)}],
            }
            for address, labels in targets.items()
        ]
        intervals = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        configuration = {"global": intervals, "rule_files": [str(rules)], "scrape_configs": jobs}
        file = household.folder / "prometheus.yaml"
        file.write_text(yaml.safe_dump(configuration), encoding="utf-8")
        address = f"127.0.0.1:{free_ports(1)[0]}"
        data = f"--storage.tsdb.path={household.folder / 'data'}"
        household.start(
            "prometheus", binary("prometheus"), f"--config.file={file}", data, f"--web.listen-address={address}"
        )
        running = Prometheus(f"http://{address}")
        eventually(running.ready)
        yield running
    finally:
        household.close()
