"""How kopf watches: its settings, each with its reason. Called by `process`; the handlers are in `handlers`.

All of it is about kopf 1.45.2. Time-outs are such that a connection that hears nothing is made anew within 90 s.
"""

import logging
from collections.abc import Iterable
from typing import Any

import kopf
from kopf._cogs.clients.errors import APINotFoundError

from unisd_operator.api.names import FIELD_MANAGER, MANAGED_BY
from unisd_operator.cluster.client import KINDS
from unisd_operator.settings import Settings

CHILD_KINDS = (
    "ConfigMap",
    "Service",
    "PersistentVolumeClaim",
    "Pod",
    "Deployment",
    "Job",
    "NetworkPolicy",
    "PodDisruptionBudget",
    "Workload",
)
SELECTOR = f"{MANAGED_BY}={FIELD_MANAGER}"
"""Labels of what is watched besides runs."""
NotServedError = APINotFoundError
"""Ends kopf when a resource is removed, and its watch hears of that sooner than kopf does (or may) from its CRD."""


def selector(kind: str) -> tuple[str, str, str]:
    """Group, version and plural of a kind."""
    version, plural = KINDS[kind]
    group, _, bare = version.rpartition("/")
    return group, bare, plural


def kopf_settings(settings: Settings) -> kopf.OperatorSettings:
    """kopf's settings."""
    found = kopf.OperatorSettings()
    found.watching.server_timeout = 240
    found.watching.client_timeout = 270  # a little after the server has ended the watch by itself
    found.watching.connect_timeout = 10
    found.watching.inactivity_timeout = 70  # bookmarks come every 60 s
    found.watching.reconnect_backoff = 1
    found.watching.chunk_size = 500  # whole lists of thousands of objects would not fit the memory
    for kind in CHILD_KINDS:
        found.watching.label_selectors[selector(kind)] = SELECTOR
    found.networking.request_timeout = 30
    found.networking.enforce_retry_after = True
    found.networking.error_backoffs = (0.7, 1.3, 2.4, 5.1, 9.7, 14.3)
    found.queueing.worker_limit = None  # a limit below the number of objects deadlocks the index
    found.queueing.idle_timeout = 1.0  # a task for every object that was just seen costs memory
    found.posting.enabled = False  # Events are our own
    found.peering.standalone = True  # the Lease decides who acts
    found.scanning.disabled = bool(settings.namespaces)  # an operator of namespaces may not list CRDs
    found.persistence.diffbase_storage = _Unchanged()
    # One line an event says nothing that metrics do not.
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    return found


class _Unchanged(kopf.DiffBaseStorage):
    """No handler of ours asks what has changed: without this kopf copies every object six times to find out."""

    def build(self, *, body: kopf.Body, extra_fields: Iterable[Any] | None = None) -> Any:
        return {}

    def fetch(self, *, body: kopf.Body) -> None:
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        raise AssertionError("nothing is stored on objects")
