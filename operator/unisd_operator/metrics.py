"""The operator's metrics, as docs/operator/metrics.md promises them.

`reconcile` hands over each status that it has written or found unchanged; what is scraped is made from those alone, so
that metrics and status never disagree. Served from a thread of prometheus-client.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, get_args

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client import Counter as PrometheusCounter
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from unisd_operator.api.resource import Key
from unisd_operator.api.status import Component, RunPhase, Status

CONDITIONS = ("Complete", "Failed", "Stalled", "Suspended", "WeightsStale", "ProgressUnavailable")
MAX_SCORES = 14
_RUN = ("namespace", "run")
_FAMILIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "unisd_run_condition": ("1 if the condition is True", (*_RUN, "condition")),
    "unisd_component_phase": ("1 for the phase that the component is in", (*_RUN, "component", "phase")),
    "unisd_component_waiting": ("1 while the component waits", (*_RUN, "component", "reason")),
    "unisd_component_failure": ("1 once the component has failed for good", (*_RUN, "component", "reason")),
    "unisd_component_failed_attempts": ("Attempts that count against backoffLimit", (*_RUN, "component")),
    "unisd_component_progress_ratio": ("Share of optimiser steps done, 0 to 1", (*_RUN, "component")),
    "unisd_component_remaining_seconds": ("Estimated time left", (*_RUN, "component")),
    "unisd_component_policy_lag": ("Versions that the slowest rollout server lags behind", (*_RUN, "component")),
    "unisd_component_rollout_ready": ("Rollout servers that are ready", (*_RUN, "component")),
    "unisd_component_rollout_desired": ("Rollout servers that are wanted", (*_RUN, "component")),
    "unisd_component_gpu_hours": ("GPU time so far, hours", (*_RUN, "component")),
    "unisd_component_score": ("Score", (*_RUN, "component", "task", "metric")),
}


class Sample(NamedTuple):
    """One value of a family."""

    family: str
    labels: tuple[str, ...]
    value: float


@dataclass(eq=False)
class Metrics(Collector):
    """Everything that is scraped."""

    version: str
    leads: Callable[[], bool]
    queue_depth: Callable[[], int] = lambda: 0
    queue_age: Callable[[], float] = lambda: 0.0
    watched: float = field(default_factory=time.monotonic)
    """When the newest watch event came, seconds of the monotonic clock."""
    resynced: float = field(default_factory=time.monotonic)
    """When the newest resync finished, seconds of the monotonic clock."""
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    _runs: dict[Key, tuple[RunPhase, tuple[Sample, ...]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.registry.register(self)
        self.reconciles = PrometheusCounter("unisd_reconciles", "Turns taken", registry=self.registry)
        self.errors = PrometheusCounter("unisd_reconcile_errors", "Turns that failed", registry=self.registry)
        self.duration = Histogram("unisd_reconcile_duration_seconds", "Duration of a turn", registry=self.registry)

    def update(self, key: Key, status: Status) -> None:
        """Takes in a run's status."""
        self._runs[key] = status.phase, tuple(_run_samples(key, status))

    def remove(self, key: Key) -> None:
        """Forgets a run."""
        self._runs.pop(key, None)

    def collect(self) -> Iterable[Metric]:
        """What is scraped; called by prometheus-client from another thread."""
        now = time.monotonic()
        leads = self.leads()
        build = GaugeMetricFamily("unisd_build_info", "Version of the operator", labels=["version"])
        build.add_metric([self.version], 1)
        yield build
        yield GaugeMetricFamily("unisd_leader", "1 on the replica that leads", value=float(leads))
        yield GaugeMetricFamily("unisd_queue_depth", "Runs that wait for a turn", value=self.queue_depth())
        yield GaugeMetricFamily("unisd_queue_oldest_seconds", "Wait of the oldest of them", value=self.queue_age())
        yield GaugeMetricFamily("unisd_watch_age_seconds", "Since the newest watch event", value=now - self.watched)
        yield GaugeMetricFamily("unisd_resync_age_seconds", "Since the newest resync", value=now - self.resynced)
        if leads:
            yield from self._of_runs()

    def _of_runs(self) -> Iterator[Metric]:
        runs = list(self._runs.values())
        phases = Counter(phase for phase, _ in runs)
        by_phase = GaugeMetricFamily("unisd_runs", "Runs by phase", labels=["phase"])
        for phase in get_args(RunPhase):
            by_phase.add_metric([phase], phases[phase])
        yield by_phase
        families = {name: GaugeMetricFamily(name, *_described(name)) for name in _FAMILIES}
        for _, samples in runs:
            for sample in samples:
                families[sample.family].add_metric(sample.labels, sample.value)
        yield from families.values()


def _described(name: str) -> tuple[str, None, tuple[str, ...]]:
    text, labels = _FAMILIES[name]
    return text, None, labels


def _run_samples(key: Key, status: Status) -> Iterator[Sample]:
    held = {condition.type for condition in status.conditions if condition.status == "True"}
    for condition in CONDITIONS:
        yield Sample("unisd_run_condition", (*key, condition), float(condition in held))
    for component in status.components:
        yield from _component_samples((*key, component.name), component)


def _component_samples(labels: tuple[str, str, str], component: Component) -> Iterator[Sample]:
    def sample(name: str, value: float, *more: str) -> Sample:
        return Sample(f"unisd_component_{name}", (*labels, *more), value)

    yield sample("phase", 1, component.phase)
    if component.waiting is not None:
        yield sample("waiting", 1, component.waiting.reason)
    if component.phase == "Failed" and component.failure is not None:
        yield sample("failure", 1, component.failure.reason)
    yield sample("failed_attempts", component.failed_attempts)
    if (progress := component.progress) is not None:
        yield sample("progress_ratio", progress.step / progress.total_steps if progress.total_steps else 0.0)
        if progress.estimated_remaining_seconds is not None:
            yield sample("remaining_seconds", progress.estimated_remaining_seconds)
    if component.policy_version is not None:
        yield sample("policy_lag", component.policy_version.trainer - component.policy_version.rollout)
    if component.rollout is not None:
        yield sample("rollout_ready", component.rollout.ready)
        yield sample("rollout_desired", component.rollout.desired)
    yield sample("gpu_hours", component.gpu_seconds / 3600)
    for score in component.evaluations[:MAX_SCORES]:
        yield sample("score", score.score, score.task, score.metric)
