"""What the command line reads of a cluster: one run, its pods, its Jobs. Reads only; translates errors once.

Called by `unisd status`, `logs`, `fetch` and `upload`. Knows labels of children, not how they are planned.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

GROUP, VERSION, PLURAL = "unisd.dev", "v1alpha1", "selfdistillruns"
_TIMEOUT = 30


class ClusterError(Exception):
    """The cluster cannot answer; the message says what to do."""


@dataclass(frozen=True)
class Log:
    """One container's log."""

    pod: str
    container: str


class Cluster:
    """One namespace of the cluster that kubectl talks to."""

    def __init__(self, namespace: str | None, context: str | None) -> None:
        try:
            kubeconfig: Any = config
            file = os.environ.get("KUBECONFIG")  # as it is now: the client read it when it was imported
            kubeconfig.load_kube_config(file, context=context)
            _, active = kubeconfig.list_kube_config_contexts(file)
        except config.ConfigException as error:
            raise ClusterError(f"no cluster: {error}; set KUBECONFIG, or give --context") from None
        self.namespace: str = namespace or active["context"].get("namespace", "default")
        self._objects: Any = client.CustomObjectsApi()
        self._core: Any = client.CoreV1Api()
        self._batch: Any = client.BatchV1Api()

    def run(self, name: str) -> dict[str, Any]:
        """The SelfDistillRun of this name, as it stands in the API server."""
        with translated(f"run {name} in namespace {self.namespace}"):
            found: dict[str, Any] = self._objects.get_namespaced_custom_object(
                GROUP, VERSION, self.namespace, PLURAL, name, _request_timeout=_TIMEOUT
            )
        return found

    def has_claim(self, name: str) -> bool:
        """Whether there is a claim of this name."""
        with translated(f"claims of namespace {self.namespace}"):
            only = f"metadata.name={name}"
            found = self._core.list_namespaced_persistent_volume_claim(
                self.namespace, field_selector=only, _request_timeout=_TIMEOUT
            )
        return bool(found.items)

    def has_run(self, name: str) -> bool:
        """Whether there is a run of this name; there is none where the resource is not installed."""
        with translated(f"runs of namespace {self.namespace}"):
            try:
                self._objects.get_namespaced_custom_object(
                    GROUP, VERSION, self.namespace, PLURAL, name, _request_timeout=_TIMEOUT
                )
            except ApiException as error:
                if error.status != HTTPStatus.NOT_FOUND:
                    raise
                return False
        return True

    def pod_template(self, uid: str) -> dict[str, Any] | None:
        """The pod template of a Job of this run that mounts its claim, as the API server has it."""
        with translated("jobs of the run"):
            jobs = self._batch.list_namespaced_job(
                self.namespace, label_selector=f"{GROUP}/run-uid={uid}", _request_timeout=_TIMEOUT
            ).items
        if not jobs:
            return None
        first = min(jobs, key=lambda job: job.metadata.creation_timestamp)
        serializer: Any = client.ApiClient()
        found: dict[str, Any] = serializer.sanitize_for_serialization(first.spec.template)
        return found

    def logs(self, uid: str, arm: str, role: str) -> list[Log]:
        """Containers of the newest attempt at `arm` (or at a shared stage, if it has no arm) in this role."""
        selector = f"{GROUP}/run-uid={uid},{GROUP}/role={role}"
        selector += f",{GROUP}/arm={arm}" if arm != role else ""
        with translated(f"pods of {arm}"):
            pods = self._core.list_namespaced_pod(
                self.namespace, label_selector=selector, _request_timeout=_TIMEOUT
            ).items
        newest = max((_attempt(pod) for pod in pods), default=0)
        return [
            Log(pod.metadata.name, container.name)
            for pod in sorted(pods, key=lambda pod: pod.metadata.name)
            if _attempt(pod) == newest
            for container in pod.spec.containers
        ]

    def lines(self, log: Log, *, follow: bool, tail: int | None) -> Iterator[str]:
        """Lines of a log, as they come if `follow`."""
        with translated(f"log of pod {log.pod}"):
            answer = self._core.read_namespaced_pod_log(
                log.pod,
                self.namespace,
                container=log.container,
                follow=follow,
                tail_lines=tail,
                _preload_content=False,
                _request_timeout=None if follow else _TIMEOUT,
            )
            for line in answer:
                yield line.decode(errors="replace").rstrip("\n")


def _reason(error: ApiException) -> str:
    """In a few words, and for what was refused in the API server's own: which rule it breaks stands there."""
    if error.status in (401, 404):
        return {401: "not logged in", 404: "not found"}[error.status]
    try:
        return str(json.loads(error.body or "")["message"])
    except (ValueError, KeyError, TypeError):
        return str(error.reason)


def _attempt(pod: Any) -> int:
    return int(pod.metadata.labels[f"{GROUP}/attempt"])


class translated:  # noqa: N801 - reads as a word in `with`
    """Turns the client's errors into one that says what was asked for."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None: ...

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, ApiException):
            raise ClusterError(f"{self._what}: {_reason(error)}") from None
        if isinstance(error, HTTPError):
            raise ClusterError(f"{self._what}: the API server does not answer: {error}") from None
