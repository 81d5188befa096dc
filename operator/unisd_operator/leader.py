"""Leader election by a Lease: of several replicas one writes, the others keep their caches warm.

`kubernetes.aio.leaderelection` is not used: its calls may hang for minutes, it reads the wall clock only between them,
and it gives nothing back on shutdown. Here every call has its own time-out, all durations are of the monotonic clock,
and a thread of its own ends the process when the Lease could not be renewed in time, even if the event loop hangs.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from unisd_operator.cluster.client import Client, ClusterError, NotFoundError

LEASE_SECONDS = 15.0
RENEW_SECONDS = 10.0
RETRY_SECONDS = 2.0
EXIT_LOST = 70
_CALL_SECONDS = 4.0
_WATCHDOG_SECONDS = 0.1

log = logging.getLogger(__name__)


@dataclass
class Leader:
    """This replica's place in the election."""

    identity: str
    """Name of this replica; of every process another."""
    namespace: str
    name: str
    elected: Callable[[], None]
    """Called once this replica leads."""
    _renewed: float | None = field(default=None, init=False)
    _seen: tuple[Any, ...] = field(default=(), init=False)
    _seen_at: float = field(default=0.0, init=False)

    @property
    def leads(self) -> bool:
        """Whether this replica may write now."""
        return self._renewed is not None and time.monotonic() - self._renewed < RENEW_SECONDS

    async def run(self, client: Client) -> None:
        """Tries to lead, then keeps leading. Does not come back: a leader that loses its Lease ends the process."""
        while True:
            begun = time.monotonic()
            if await self._try(client):
                self._hold(begun)
            await asyncio.sleep(RETRY_SECONDS if self.leads else self._patience())

    async def release(self, client: Client) -> None:
        """Gives the Lease back, so that another replica need not wait for it to run out."""
        if not self.leads:
            return
        self._renewed = None
        try:
            async with asyncio.timeout(_CALL_SECONDS):
                lease = await client.get("Lease", self.namespace, self.name)
                if lease["spec"].get("holderIdentity") == self.identity:
                    spec = {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
                    await client.replace("Lease", self.namespace, {**lease, "spec": spec})
        except (ClusterError, TimeoutError) as error:
            log.warning("the Lease was not given back, it runs out by itself: %s", error)

    async def _try(self, client: Client) -> bool:
        """One try to get or to renew the Lease."""
        try:
            async with asyncio.timeout(_CALL_SECONDS):
                lease = await client.get("Lease", self.namespace, self.name)
                if not self._free(lease):
                    return False
                await client.replace("Lease", self.namespace, {**lease, "spec": self._spec(lease["spec"])})
        except NotFoundError:
            return await self._create(client)
        except (ClusterError, TimeoutError) as error:
            log.warning("the Lease was not renewed: %s", str(error) or "no answer in time")
            return False
        return True

    async def _create(self, client: Client) -> bool:
        metadata = {"name": self.name, "namespace": self.namespace}
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": self._spec({})}
        try:
            async with asyncio.timeout(_CALL_SECONDS):
                await client.create("Lease", self.namespace, body)
        except (ClusterError, TimeoutError) as error:
            log.warning("the Lease was not made: %s", str(error) or "no answer in time")
            return False
        return True

    def _free(self, lease: Any) -> bool:
        """Whether the Lease is ours, given back, or has not been renewed for as long as it lasts, by our own clock."""
        spec = lease.get("spec", {})
        seen = (spec.get("holderIdentity"), spec.get("renewTime"), spec.get("leaseTransitions"))
        if seen != self._seen:
            self._seen, self._seen_at = seen, time.monotonic()
        lasts = float(spec.get("leaseDurationSeconds", LEASE_SECONDS))
        return seen[0] in ("", None, self.identity) or time.monotonic() - self._seen_at >= lasts

    def _patience(self) -> float:
        """Seconds until the next try: no later than the moment at which the Lease runs out."""
        left = self._seen_at + LEASE_SECONDS - time.monotonic()
        return min(RETRY_SECONDS, max(0.05, left))

    def _spec(self, before: Any) -> dict[str, Any]:
        ours = before.get("holderIdentity") == self.identity
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": int(LEASE_SECONDS),
            "acquireTime": before.get("acquireTime") if ours else _now(),
            "renewTime": _now(),
            "leaseTransitions": before.get("leaseTransitions", 0) + (0 if ours else 1),
        }

    def _hold(self, begun: float) -> None:
        """Counts the Lease as ours from before the call that got it."""
        first = self._renewed is None
        self._renewed = begun
        if first:
            log.info("%s leads", self.identity)
            threading.Thread(target=self._watch, name="lease watchdog", daemon=True).start()
            self.elected()

    def _watch(self) -> None:
        """Ends the process as soon as the Lease has not been renewed in time, whatever else it does."""
        while (renewed := self._renewed) is not None:
            if time.monotonic() - renewed >= RENEW_SECONDS:
                os.write(2, b"the Lease was lost: this replica ends, another one leads\n")
                os._exit(EXIT_LOST)
            time.sleep(_WATCHDOG_SECONDS)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
