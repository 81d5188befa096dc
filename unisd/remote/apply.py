"""Puts runs on a cluster by server-side apply, as `kubectl apply --server-side` does. Called by `unisd experiments`."""

from typing import Any

from kubernetes import client

from unisd.config.names import GROUP, PLURAL, VERSION
from unisd.remote.cluster import TIMEOUT, Cluster, translated

_APPLY = "application/apply-patch+yaml"
_MANAGER = "unisd"


def apply(cluster: Cluster, manifest: dict[str, Any]) -> None:
    """Makes the run, or leaves it as it is if it says the same.

    Raises:
        ClusterError: the API server refuses it, with its words, or does not answer.
    """
    name = manifest["metadata"]["name"]
    with translated(f"run {name} in namespace {cluster.namespace}"):
        client.CustomObjectsApi().patch_namespaced_custom_object(
            GROUP,
            VERSION,
            cluster.namespace,
            PLURAL,
            name,
            manifest,
            field_manager=_MANAGER,
            _content_type=_APPLY,
            _request_timeout=TIMEOUT,
        )
