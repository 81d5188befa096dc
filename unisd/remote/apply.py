"""Puts runs on a cluster by server-side apply, as `kubectl apply --server-side` does. Called by `unisd experiments`."""

import json
from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from unisd.remote.cluster import GROUP, PLURAL, VERSION, Cluster, ClusterError

_APPLY = "application/apply-patch+yaml"
_MANAGER = "unisd"
_TIMEOUT = 30


def apply(cluster: Cluster, manifest: dict[str, Any]) -> None:
    """Makes the run, or leaves it as it is if it says the same.

    Raises:
        ClusterError: the API server refuses it, with its words, or does not answer.
    """
    name, objects = manifest["metadata"]["name"], client.CustomObjectsApi()
    try:
        objects.patch_namespaced_custom_object(
            GROUP,
            VERSION,
            cluster.namespace,
            PLURAL,
            name,
            manifest,
            field_manager=_MANAGER,
            _content_type=_APPLY,
            _request_timeout=_TIMEOUT,
        )
    except ApiException as error:
        raise ClusterError(f"run {name} in namespace {cluster.namespace}: {_words(error)}") from None
    except HTTPError as error:
        raise ClusterError(f"run {name}: the API server does not answer: {error}") from None


def _words(error: ApiException) -> str:
    """What the API server says is wrong."""
    try:
        return str(json.loads(error.body or "")["message"])
    except (ValueError, KeyError, TypeError):
        return str(error.reason)
