"""Calls to the API server: one method each, every one under a time-out of its own, errors translated once.

Used by `reconcile`, `leader` and whatever else asks the API server. Knows paths and verbs, nothing of runs. Objects go
in and come out as plain mappings, so that none of the client's models is loaded.
"""

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config.incluster_config import load_incluster_config
from kubernetes.aio.config.kube_config import load_kube_config

from unisd_operator.api.names import API_VERSION, FIELD_MANAGER, KIND, PLURAL, Object

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
# Seconds that one call may take. The client's own default is 300, longer than a Lease lasts.
TIMEOUT = 15.0
KINDS: Mapping[str, tuple[str, str]] = {
    KIND: (API_VERSION, PLURAL),
    "ConfigMap": ("v1", "configmaps"),
    "Secret": ("v1", "secrets"),
    "Service": ("v1", "services"),
    "PersistentVolumeClaim": ("v1", "persistentvolumeclaims"),
    "Pod": ("v1", "pods"),
    "Event": ("v1", "events"),
    "Deployment": ("apps/v1", "deployments"),
    "Job": ("batch/v1", "jobs"),
    "NetworkPolicy": ("networking.k8s.io/v1", "networkpolicies"),
    "PodDisruptionBudget": ("policy/v1", "poddisruptionbudgets"),
    "Workload": ("kueue.x-k8s.io/v1beta2", "workloads"),
    "Lease": ("coordination.k8s.io/v1", "leases"),
}
"""API version and plural of every kind that the operator touches."""


class ClusterError(Exception):
    """A call that the API server did not carry out."""


class ConflictError(ClusterError):
    """The object has changed since it was read, exists already, or is another one of the same name."""


class NotFoundError(ClusterError):
    """There is no such object."""


class RefusedError(ClusterError):
    """The API server understood and said no: invalid, forbidden, over quota. Its message says why."""


class UnavailableError(ClusterError):
    """No answer in time, an answer that asks to come again later, or no right to act any more."""


def path_of(kind: str, namespace: str | None = None, name: str | None = None, subresource: str = "") -> str:
    """URL path of a kind, a namespace's objects of it, or one object."""
    version, plural = KINDS[kind]
    parts = ["api" if "/" not in version else "apis", version]
    parts += ["namespaces", namespace] if namespace else []
    parts += [part for part in (plural, name, subresource) if part]
    return "/" + "/".join(parts)


class Client:
    """The API server.

    Args:
        api: an open client of `kubernetes.aio`.
        may_write: asked before every write; once it says False nothing is written any more.
    """

    def __init__(self, api: ApiClient, may_write: Callable[[], bool] = lambda: True) -> None:
        self._api = api
        self._may_write = may_write

    async def get(self, kind: str, namespace: str, name: str) -> Object:
        """One object. Raises NotFoundError."""
        found: Object = await self._json("GET", path_of(kind, namespace, name))
        return found

    async def list(self, kind: str, namespace: str | None = None, **query: str) -> "list[Object]":
        """Objects of a kind; `query` e.g. `fieldSelector`. Whole lists: for what is small."""
        found: list[Object] = (await self._json("GET", path_of(kind, namespace), query=query))["items"]
        return found

    async def uids(self, kind: str, selector: str, namespace: str | None = None, one: bool = False) -> frozenset[str]:
        """uids of all objects of a kind with these labels, or of one of them, without their contents."""
        found: set[str] = set()
        query = {"labelSelector": selector, "limit": "1" if one else "500"}
        while True:
            page = await self._json("GET", path_of(kind, namespace), query=query, accept=_METADATA)
            found |= {item["metadata"]["uid"] for item in page["items"] or ()}  # null where there are none
            if one or not page["metadata"].get("continue"):
                return frozenset(found)
            query["continue"] = page["metadata"]["continue"]

    async def create(self, kind: str, namespace: str, body: Object) -> Object:
        """Makes an object. Raises ConflictError if it exists."""
        return await self._write("POST", path_of(kind, namespace), body, query={"fieldManager": FIELD_MANAGER})

    async def apply(self, namespace: str, body: Object) -> Object:
        """Server-side apply, as the owner of every field in `body`; the object as it is afterwards."""
        path = path_of(body["kind"], namespace, body["metadata"]["name"])
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        return await self._write("PATCH", path, body, query=query, content=APPLY)

    async def replace(self, kind: str, namespace: str, body: Object) -> Object:
        """Replaces an object; its resourceVersion must be the current one. Raises ConflictError."""
        return await self._write("PUT", path_of(kind, namespace, body["metadata"]["name"]), body)

    async def merge(self, kind: str, namespace: str, name: str, patch: Object, subresource: str = "") -> Object:
        """JSON merge patch; with a resourceVersion in it refused (ConflictError) if the object has changed."""
        path = path_of(kind, namespace, name, subresource)
        return await self._write("PATCH", path, patch, query={"fieldManager": FIELD_MANAGER}, content=MERGE)

    async def delete(
        self, kind: str, namespace: str, name: str, uid: str | None, grace_seconds: int | None = None
    ) -> None:
        """Deletes this very object (any of its name without uid), and with it what it owns; nothing if it is gone.

        Raises ConflictError if the object is another one by now.
        """
        options: dict[str, Any] = {"propagationPolicy": "Background"}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        try:
            await self._write("DELETE", path_of(kind, namespace, name), options)
        except NotFoundError:
            return

    async def log(self, namespace: str, pod: str, container: str, previous: bool) -> str:
        """The end of a container's log, at most 256 kB; of the container before a restart if `previous`."""
        query = {
            "container": container,
            "tailLines": "200",
            "limitBytes": str(2**18),
            "previous": str(previous).lower(),
        }
        raw = await self._send("GET", path_of("Pod", namespace, pod, "log"), query, None, _Content(accept="*/*"))
        return raw.decode(errors="replace")

    async def has(self, kind: str) -> bool:
        """Whether the API server knows a kind."""
        version, plural = KINDS[kind]
        try:
            served = await self._json("GET", f"/apis/{version}")
        except NotFoundError:
            return False
        return any(resource["name"] == plural for resource in served["resources"])

    async def _json(self, method: str, path: str, query: Object | None = None, accept: str = "application/json") -> Any:
        return json.loads(await self._send(method, path, query or {}, None, _Content(accept=accept)))

    async def _write(
        self, method: str, path: str, body: Object, query: Object | None = None, content: str = "application/json"
    ) -> Object:
        if not self._may_write():
            raise UnavailableError("this replica no longer leads")
        answer: Object = json.loads(await self._send(method, path, query or {}, body, _Content(content)))
        return answer

    async def _send(self, method: str, path: str, query: Object, body: Object | None, content: "_Content") -> bytes:
        url = f"{self._api.configuration.host}{path}" + (f"?{urlencode(query)}" if query else "")
        headers = {"Accept": content.accept, "Content-Type": content.type, "User-Agent": FIELD_MANAGER}
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._api.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
                answer: Any = await self._api.rest_client.request(  # type: ignore[no-untyped-call]
                    method, url, headers=headers, body=body
                )
                raw: bytes = await answer.read()
        except TimeoutError as error:
            raise UnavailableError(f"{method} {path}: no answer within {TIMEOUT:.0f} s") from error
        except aiohttp.ClientError as error:
            raise UnavailableError(f"{method} {path}: {error}") from error
        if answer.status >= 300:
            raise _error(answer.status, raw)
        return raw


class _Content(NamedTuple):
    """Media types of one call."""

    type: str = "application/json"
    accept: str = "application/json"


_METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


def _error(status: int, raw: bytes) -> ClusterError:
    """What an answer of the API server means, in its own words."""
    try:
        message = str(json.loads(raw)["message"])
    except (ValueError, KeyError, TypeError):
        message = f"HTTP {status}: {raw[:200].decode(errors='replace')}"
    if status == 409:
        return ConflictError(message)
    if status == 404:
        return NotFoundError(message)
    if status in (401, 408, 429) or status >= 500:
        return UnavailableError(message)
    return RefusedError(message)


async def connect() -> ApiClient:
    """A client of the cluster that this process runs in, or of the one that KUBECONFIG names."""
    configuration = Configuration()
    if os.environ.get("KUBECONFIG"):
        await load_kube_config(client_configuration=configuration, persist_config=False)  # type: ignore[no-untyped-call]
    else:
        load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    # Proxies are the kubeconfig's to name: aiohttp would look into environment and netrc, in a thread, at each request.
    configuration.client_session_kwargs = {"trust_env": False}
    return ApiClient(configuration)
