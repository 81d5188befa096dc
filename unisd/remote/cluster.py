"""What the command line reads of a cluster: one run, its pods, its Jobs. Reads only; translates errors once.

Called by `unisd status`, `logs`, `fetch` and `upload`. Knows labels of children, not how they are planned.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from unisd.config.names import ARM, ATTEMPT, GROUP, PLURAL, ROLE, RUN_UID, VERSION

TIMEOUT = 30
"""Longest time of one request, seconds."""


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
            return self._run(name)

    def find_run(self, name: str) -> dict[str, Any] | None:
        """The same, or None if there is none of this name; there is none where the resource is not installed."""
        with translated(f"runs of namespace {self.namespace}"):
            try:
                return self._run(name)
            except ApiException as error:
                if error.status == HTTPStatus.NOT_FOUND:
                    return None
                raise

    def _run(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self._objects.get_namespaced_custom_object(
            GROUP, VERSION, self.namespace, PLURAL, name, _request_timeout=TIMEOUT
        )
        return found

    def has_claim(self, name: str) -> bool:
        """Whether there is a claim of this name."""
        with translated(f"claims of namespace {self.namespace}"):
            only = f"metadata.name={name}"
            found = self._core.list_namespaced_persistent_volume_claim(
                self.namespace, field_selector=only, _request_timeout=TIMEOUT
            )
        return bool(found.items)

    def pod_template(self, uid: str) -> dict[str, Any] | None:
        """The pod template of a Job of this run that mounts its claim, as the API server has it."""
        with translated("jobs of the run"):
            jobs = self._batch.list_namespaced_job(
                self.namespace, label_selector=f"{RUN_UID}={uid}", _request_timeout=TIMEOUT
            ).items
        if not jobs:
            return None
        first = min(jobs, key=lambda job: job.metadata.creation_timestamp)
        serializer: Any = client.ApiClient()
        found: dict[str, Any] = serializer.sanitize_for_serialization(first.spec.template)
        return found

    def logs(self, uid: str, arm: str, role: str) -> list[Log]:
        """Containers of the newest attempt at `arm` (or at a shared stage, if it has no arm) in this role."""
        selector = f"{RUN_UID}={uid},{ROLE}={role}"
        selector += f",{ARM}={arm}" if arm != role else ""
        with translated(f"pods of {arm}"):
            pods = self._core.list_namespaced_pod(
                self.namespace, label_selector=selector, _request_timeout=TIMEOUT
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
                _request_timeout=None if follow else TIMEOUT,
            )
            for line in answer:
                yield line.decode(errors="replace").rstrip("\n")


def _attempt(pod: Any) -> int:
    return int(pod.metadata.labels[ATTEMPT])


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turns the client's errors into one that says what was asked for."""
    try:
        yield
    except ApiException as error:
        raise ClusterError(f"{what}: {_reason(error)}") from None
    except HTTPError as error:
        raise ClusterError(f"{what}: the API server does not answer: {error}") from None


def _reason(error: ApiException) -> str:
    """The API server's own words: which rule something breaks, or what is not there, stands in them."""
    if error.status == HTTPStatus.UNAUTHORIZED:
        return "not logged in"
    try:
        return str(json.loads(error.body or "")["message"])
    except (ValueError, KeyError, TypeError):
        return str(error.reason)
