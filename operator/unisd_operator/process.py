"""The running operator: watches, queue, election, resync, progress and metrics, put together. Called by `__main__`."""

import asyncio
import base64
import logging
import os
import random
import secrets
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

import kopf
from prometheus_client import start_http_server

from unisd.listening import every_address
from unisd_operator import health
from unisd_operator.api.names import KIND
from unisd_operator.api.resource import Key
from unisd_operator.cluster import progress
from unisd_operator.cluster.client import Client, ClusterError, ConflictError, NotFoundError, connect
from unisd_operator.cluster.store import Store
from unisd_operator.handlers import Watches, registry
from unisd_operator.leader import Leader
from unisd_operator.metrics import Metrics
from unisd_operator.queue import TransientError, WorkQueue
from unisd_operator.reconcile import World, reconcile
from unisd_operator.settings import Settings
from unisd_operator.watching import CHILD_KINDS, SELECTOR, NotServedError, kopf_settings

# Every so many resyncs the lists of all objects are compared with what is known of them.
_RESYNCS_BETWEEN_SWEEPS = 10
# What may be installed after the operator, or removed while it runs.
LATE_KINDS = (KIND, "Workload")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Operator:
    """The parts of one running operator."""

    world: World
    watches: Watches
    leads: Callable[[], bool]

    @property
    def acts(self) -> bool:
        """Whether runs are looked at: this replica leads, and has seen everything that exists."""
        return self.leads() and self.watches.warm_since is not None

    def wake_all(self, within: float = 0.0) -> None:
        """Has every run looked at, spread over some seconds."""
        for key in self.world.store.all_keys():
            self.watches.queue.add(key, random.uniform(0.0, within))

    async def turn(self, key: Key) -> float | None:
        """One turn of a run, counted and timed. A standby only watches: it looks at all runs once it leads."""
        metrics, begun = self.world.metrics, time.monotonic()
        if not self.acts:
            return None
        metrics.reconciles.inc()
        try:
            return await reconcile(self.world, key)
        except ConflictError:
            return 1.0  # the run has changed: its watch event brings the next turn, or this does
        except ClusterError as error:
            metrics.errors.inc()
            raise TransientError(str(error)) from error
        except Exception:
            metrics.errors.inc()
            raise
        finally:
            metrics.duration.observe(time.monotonic() - begun)

    async def resync(self) -> None:
        """Looks at every run once a while although nothing happens, and for what watches did not tell."""
        count = 0
        while True:
            count += 1
            try:
                await self._discover()
                kinds = set(self.watches.listed_again)
                if count % _RESYNCS_BETWEEN_SWEEPS == 0:
                    kinds = {KIND, *CHILD_KINDS}
                for kind in kinds:
                    await self._sweep(kind)
                self.world.metrics.resynced = time.monotonic()
            except ClusterError as error:
                log.warning("the resync was not finished: %s", error)
            if self.acts:
                self.wake_all(within=self.world.settings.resync_seconds / 2)
            await asyncio.sleep(self.world.settings.resync_seconds)

    async def _discover(self) -> None:
        """Starts the operator anew where its watches would miss something: a kind that was installed after it, or again
        within a moment, of which kopf may learn before it is served."""
        store, before = self.world.store, self.world.store.served
        store.served = frozenset([kind for kind in LATE_KINDS if await self.world.client.has(kind)])
        new = store.served - before if before is not None else frozenset[str]()
        if new or await self._is_blind():
            log.warning("%s: not watched; the operator starts anew", ", ".join(new) or "runs")
            os.kill(os.getpid(), signal.SIGTERM)

    async def _is_blind(self) -> bool:
        """Whether there is a run that no watch has told of, now and at the resync before."""
        if KIND not in (self.world.store.served or ()):
            return False
        found = await self._uids(KIND, one=True)
        missed, self.watches.missed = self.watches.missed, found - self.world.store.uids(KIND)
        return bool(missed & self.watches.missed)

    async def _sweep(self, kind: str) -> None:
        """Forgets what was deleted while its watch was interrupted."""
        store = self.world.store
        if kind in LATE_KINDS and kind not in (store.served or ()):
            return
        before = store.uids(kind)  # asked first: what is made meanwhile is not taken for deleted
        for key in store.retain(kind, before, await self._uids(kind)):
            self.watches.wake(key)
        self.watches.listed_again.discard(kind)

    async def _uids(self, kind: str, one: bool = False) -> frozenset[str]:
        """uids of all objects of a kind that are watched, or of one of them in each namespace."""
        found, selector = frozenset[str](), "" if kind == KIND else SELECTOR
        namespaces: list[str | None] = [*self.world.settings.namespaces] or [None]
        for namespace in namespaces:
            found |= await self.world.client.uids(kind, selector, namespace, one)
        return found

    async def ask_progress(self) -> None:
        """Asks all trainings and stages how far they are, again and again."""
        store = self.world.store
        while True:
            await asyncio.sleep(self.world.settings.progress_seconds)
            if not self.acts:
                continue
            asked = [(key, uid, pod, who) for key, uid, pod in store.all_pods() if (who := progress.source(pod))]
            answers = await progress.ask(pod for _, _, pod, _ in asked)
            for (key, uid, _, who), answer in zip(asked, answers, strict=True):
                known = store.notes(uid).answers
                if who not in known or (known[who].values, known[who].error) != (answer.values, answer.error):
                    self.watches.wake(key)
                known[who] = answer


async def operate(settings: Settings) -> None:
    """Watches and reconciles until the process is told to end."""
    store, queue = Store(settings.gpu_resource), WorkQueue[Key]()
    identity = f"{socket.gethostname()}-{secrets.token_hex(4)}"
    leader = Leader(identity, settings.lease_namespace, settings.lease_name, lambda: operator.wake_all(0.0))
    leads = (lambda: leader.leads) if settings.leader_election else (lambda: True)
    metrics = Metrics(settings.version, leads, lambda: queue.depth, lambda: queue.age)
    watches = Watches(store, queue, metrics, warm=lambda: operator.wake_all(0.0))
    async with await connect() as api:
        free = Client(api)
        world = World(Client(api, may_write=leads), store, settings, await _key(free, settings), metrics)
        operator = Operator(world, watches, leads)
        server, thread = start_http_server(settings.port, every_address(), metrics.registry)
        try:
            async with health.served(metrics, settings.health_port):
                await _until_told(operator, leader, free)
        finally:
            if settings.leader_election:
                await leader.release(free)
            server.shutdown()
            thread.join()


async def _until_told(operator: Operator, leader: Leader, free: Client) -> None:
    """Runs all parts until kopf ends, which ends on SIGTERM; a part that breaks ends the process."""
    settings, watches = operator.world.settings, operator.watches
    async with asyncio.TaskGroup() as parts:
        tasks = [
            parts.create_task(watches.queue.run(settings.workers, operator.turn)),
            parts.create_task(operator.resync()),
            parts.create_task(operator.ask_progress()),
        ]
        if settings.leader_election:
            tasks.append(parts.create_task(leader.run(free)))
        await asyncio.sleep(0)
        try:
            await kopf.operator(
                registry=registry(watches),
                settings=kopf_settings(settings),
                clusterwide=not settings.namespaces,
                namespaces=settings.namespaces,
                standalone=True,
            )
        except NotServedError as error:
            log.warning("what was watched is not served any more; the operator starts anew: %s", error)
        for task in tasks:
            task.cancel()


async def _key(client: Client, settings: Settings) -> bytes:
    """The key that API keys of rollout servers are derived from, made once for the whole installation."""
    namespace, name = settings.lease_namespace, settings.key_secret_name
    try:
        found = await client.get("Secret", namespace, name)
    except NotFoundError:
        if not settings.key_secret_create:
            raise
        value = base64.b64encode(secrets.token_bytes(32)).decode()
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": {"key": value}}
        try:
            found = await client.create("Secret", namespace, body)
        except ConflictError:
            found = await client.get("Secret", namespace, name)
    return base64.b64decode(found["data"]["key"])
