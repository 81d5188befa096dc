"""How one installation of the operator is set up: Helm values in, frozen values out.

The chart mounts them as one YAML file; `read_settings` is the only place that reads it. Planning gets them as a value.
"""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field

from unisd import __version__
from unisd.config.base import Config, PositiveInt
from unisd.config.cluster import KubernetesList, Pod, StringMap
from unisd.config.names import ROLLOUT_IMAGE, TRAINER_IMAGE


class Images(Config):
    """Images of children, where a run names none."""

    trainer: str = TRAINER_IMAGE
    """Preparation, training, evaluation, report and grader."""
    rollout: str = ROLLOUT_IMAGE
    """vLLM and its policy agent."""
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    """imagePullPolicy of every child."""


class Security(Config):
    """User and group of child pods, which run under any; what is left out is the image's or the platform's choice."""

    run_as_user: PositiveInt | None = None
    """User of every child. Default: the image's own, a number above 0."""
    fs_group: PositiveInt | None = 1000
    """Group that may write to claims. `null` where the platform assigns one, as OpenShift does. Default 1000."""


class PodDisruptionBudgets(Config):
    """Budgets for the pods of a training attempt."""

    enabled: bool = False
    """Make PodDisruptionBudgets while a component trains: no pod of its training or its servers may be evicted.
    Default false."""


class Network(Config):
    """NetworkPolicies around children, and who may read their metrics."""

    enabled: bool = True
    """Make NetworkPolicies. Default true."""
    operator_namespace: str = "unisd-system"
    """Namespace that the operator reads `/progress` from."""
    metrics_from: KubernetesList = []
    """NetworkPolicy peers that may scrape metrics ports, e.g. Prometheus' namespace."""
    api_server_port: PositiveInt = 6443
    """Port of the API server behind its Service, for the NetworkPolicy of the operator's own pods."""


class Settings(Config):
    """One installation."""

    version: str = __version__
    """Version of the operator, a label of every attempt."""
    namespaces: list[str] = []
    """Namespaces to watch; empty: all."""
    images: Images = Images()
    """Default images."""
    env: StringMap = {}
    """Environment of every child: proxies, HF_ENDPOINT, CA bundles."""
    pod: Pod = Pod()
    """Additions to every child pod; a run's own `pod` blocks come on top."""
    security: Security = Security()
    """User and group of child pods."""
    gpu_resource: str = "nvidia.com/gpu"
    """Extended resource that stands for a GPU."""
    priorities: Annotated[dict[str, int], Field(max_length=64)] = {}
    """Value of each PriorityClass that runs may name, for Kueue, which wants it beside the name."""
    storage_class_name: str | None = None
    """Storage class of claims, where a run names none."""
    network: Network = Network()
    """NetworkPolicies."""
    pod_disruption_budgets: PodDisruptionBudgets = PodDisruptionBudgets()
    """Budgets of components that train."""
    force_delete_lost_pods: bool = False
    """Delete Terminating pods of lost nodes with grace 0 once their grace has passed. Default false."""
    progress_seconds: Annotated[float, Field(gt=0)] = 10.0
    """Time between two readings of a trainer's `/progress`, seconds."""
    resync_seconds: Annotated[float, Field(gt=0)] = 60.0
    """Time after which a run is looked at again without an event, seconds."""
    status_seconds: Annotated[float, Field(ge=0)] = 5.0
    """Least time between two writes of a run's status that change figures only, seconds."""
    retry_seconds: Annotated[float, Field(gt=0)] = 10.0
    """Delay before the second attempt; doubled for each after it, at most 10 minutes, seconds."""
    max_lag: PositiveInt = 2
    """Versions that a rollout server may lag before WeightsStale."""
    workers: PositiveInt = 16
    """Runs reconciled at once."""
    port: PositiveInt = 8080
    """Port of metrics."""
    health_port: PositiveInt = 8081
    """Port of the liveness probe."""
    lease_name: str = "unisd-operator"
    """Lease of leader election."""
    lease_namespace: str = "unisd-system"
    """Namespace of the Lease and of the operator's own Secret."""
    key_secret_name: str = "unisd-operator-key"
    """Secret that holds, under `key`, what API keys of rollout servers are derived from."""
    key_secret_create: bool = True
    """Whether the operator makes that Secret, of 32 random bytes, when it starts and finds none. Default true."""
    leader_election: bool = True
    """Whether several replicas agree on one leader. Default true."""


def read_settings(path: Path) -> Settings:
    """The settings in a YAML file. Raises ValidationError with field and value."""
    return Settings.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
