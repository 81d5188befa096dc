"""Reads the end of a failed container's log. Called by `reconcile`, before any child goes."""

import asyncio

from unisd_operator.cluster.client import Client, ClusterError
from unisd_operator.log_text import end_of, masked
from unisd_operator.observed import ContainerState, PodState

# Seconds that a log may take: the turn waits for it.
_PATIENCE = 8.0


def wants_log(pod: PodState, container: ContainerState) -> bool:
    """Whether a container has failed, so that its log is to be kept."""
    return container.exit_code not in (None, 0) and (not container.running or pod.phase == "Failed")


async def failed_log(client: Client, namespace: str, pod: PodState, container: ContainerState) -> str:
    """The end of a failed container's log, masked; what kept it from being read, if it could not be."""
    previous = bool(container.waiting_reason) and container.restarts > 0
    try:
        async with asyncio.timeout(_PATIENCE):  # the node may be gone
            text = await client.log(namespace, pod.name, container.name, previous)
    except (ClusterError, TimeoutError) as error:
        return f"(the log could not be read: {str(error) or 'no answer in time'})"
    return end_of(masked(text))
