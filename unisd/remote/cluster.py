"""What the command line reads of a cluster: one run, and the pods of a component. Reads only; translates errors once.

Called by `unisd status` and `unisd logs`. Knows labels of children, not how they are planned.
"""

from collections.abc import Iterator
from dataclasses import dataclass
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
            kubeconfig.load_kube_config(context=context)
            _, active = kubeconfig.list_kube_config_contexts()
        except config.ConfigException as error:
            raise ClusterError(f"no cluster: {error}; set KUBECONFIG, or give --context") from None
        self.namespace: str = namespace or active["context"].get("namespace", "default")
        self._objects: Any = client.CustomObjectsApi()
        self._core: Any = client.CoreV1Api()

    def run(self, name: str) -> dict[str, Any]:
        """The SelfDistillRun of this name, as it stands in the API server."""
        with _translated(f"run {name} in namespace {self.namespace}"):
            found: dict[str, Any] = self._objects.get_namespaced_custom_object(
                GROUP, VERSION, self.namespace, PLURAL, name, _request_timeout=_TIMEOUT
            )
        return found

    def logs(self, uid: str, arm: str, role: str) -> list[Log]:
        """Containers of the newest attempt at `arm` (or at a shared stage, if it has no arm) in this role."""
        selector = f"{GROUP}/run-uid={uid},{GROUP}/role={role}"
        selector += f",{GROUP}/arm={arm}" if arm != role else ""
        with _translated(f"pods of {arm}"):
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
        with _translated(f"log of pod {log.pod}"):
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


def _attempt(pod: Any) -> int:
    return int(pod.metadata.labels[f"{GROUP}/attempt"])


class _translated:  # noqa: N801 - reads as a word in `with`
    """Turns the client's errors into one that says what was asked for."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None: ...

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, ApiException):
            reason = {404: "not found", 401: "not logged in", 403: "not allowed"}.get(error.status, error.reason)
            raise ClusterError(f"{self._what}: {reason}") from None
        if isinstance(error, HTTPError):
            raise ClusterError(f"{self._what}: the API server does not answer: {error}") from None
