"""How the operator grows with the number of runs: memory, latency, requests; on a real control plane, nodes simulated.

    python -m bench.controller 10 100 500 [--components 4] [--rate 18] [--train]

Times are the API server's own, from its audit log: from the answer to a run's creation to the answer to the first write
of a child. With `--train` preparation ends at once and every component gets its pods, which stay; without it runs stay
in preparation, as many as are created. The processes of the control plane take the same processors as the operator.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp

from tests.cluster.cluster import Cluster
from tests.operator.controller.harness import Operator, install, manifest, pod
from tests.operator.controller.proxy import tls

USER = "operator"
WRITES = {"create", "update", "patch", "delete"}
RUNS = "selfdistillruns"


def main() -> None:
    """Measures each size on a fresh cluster and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("runs", type=int, nargs="+")
    parser.add_argument("--components", type=int, default=4)
    parser.add_argument("--rate", type=float, default=18.0, help="runs created a second")
    parser.add_argument("--train", action="store_true", help="let every component get its pods")
    parser.add_argument("--settle", type=float, default=20.0, help="seconds without a write that end the work")
    parser.add_argument("--idle", type=float, default=70.0, help="seconds watched afterwards: nothing may be written")
    options = parser.parse_args()
    print(" | ".join(COLUMNS))
    for runs in options.runs:
        print(" | ".join(str(value) for value in measure(runs, options).values()), flush=True)


COLUMNS = (
    "runs", "created/s", "first child p50 ms", "p99 ms", "resident MiB", "peak MiB", "CPU s", "requests", "writes",
    "children", "written more than once", "status writes a run", "writes while idle",
)  # fmt: skip


def measure(runs: int, options: argparse.Namespace) -> dict[str, Any]:
    """One size, on a cluster of its own."""
    with Cluster() as cluster:
        install(cluster)
        cluster.add_volumes(runs)
        for index in range(runs * options.components * 2 // 500 if options.train else 0):
            cluster.add_fake_node(f"node-{index}", gpus=1000)
        namespace = cluster.create_namespace("bench")
        replica = Operator(cluster, user=USER, leaderElection=False, progressSeconds=10.0)
        time.sleep(5)
        rate = asyncio.run(_create(cluster, namespace, runs, options))
        _settle(cluster, options.settle)
        events = [event for event in cluster.audit() if event["stage"] == "ResponseComplete" and "objectRef" in event]
        latencies, since = sorted(_latencies(events)), cluster.audit_position()
        time.sleep(options.idle)
        idle = [event for event in cluster.audit(USER, since) if _changes(event)]
        of_process, of_requests = _process(replica.process.pid), _requests(events, runs)
        values = (runs, round(rate, 1), *_quantiles(latencies), *of_process, *of_requests, len(idle))
        return dict(zip(COLUMNS, values, strict=True))


async def _create(cluster: Cluster, namespace: str, runs: int, options: argparse.Namespace) -> float:
    """Creates the runs at the rate; the rate that it was."""
    url = f"{cluster.server}/apis/unisd.dev/v1alpha1/namespaces/{namespace}/{RUNS}"
    spec: dict[str, Any] = {"preparation": pod("0.1s" if options.train else None), "parallelism": options.components}
    begun = time.monotonic()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls(cluster))) as session:
        for index in range(runs):
            await asyncio.sleep(max(0.0, begun + index / options.rate - time.monotonic()))
            body = manifest(f"run-{index:04d}", options.components, trains=None, **spec)
            async with session.post(url, json=body) as answer:
                assert answer.status == 201, await answer.text()
    return runs / (time.monotonic() - begun)


def _settle(cluster: Cluster, seconds: float) -> None:
    """Returns when the operator has written nothing for some seconds."""
    position, quiet = cluster.audit_position(), time.monotonic()
    while time.monotonic() - quiet < seconds:
        time.sleep(2)
        events = cluster.audit(USER, position)
        position = cluster.audit_position()
        if any(_changes(event) for event in events):
            quiet = time.monotonic()


def _changes(event: dict[str, Any]) -> bool:
    """Whether a request asked for a change; a Secret's, which is never read and applied again, aside."""
    return event["verb"] in WRITES and event.get("objectRef", {}).get("resource") not in ("leases", "secrets", "events")


def _latencies(events: Sequence[dict[str, Any]]) -> list[float]:
    """Milliseconds from the creation of each run to its first child."""
    created: dict[str, datetime] = {}
    first: dict[str, datetime] = {}
    for event in events:
        reference, when = event["objectRef"], datetime.fromisoformat(event["stageTimestamp"])
        if event["verb"] == "create" and reference["resource"] == RUNS:
            created[event["requestObject"]["metadata"]["name"]] = when
        elif event["user"]["username"] == USER and _changes(event) and reference["resource"] != RUNS:
            name = reference.get("name") or event.get("requestObject", {}).get("metadata", {}).get("name", "")
            first.setdefault(name[: len("run-0000")], when)
    return [(first[name] - when).total_seconds() * 1000 for name, when in created.items() if name in first]


def _quantiles(latencies: Sequence[float]) -> tuple[float, float]:
    """Median and 99th percentile."""
    at = min(len(latencies) - 1, int(len(latencies) * 0.99))
    return round(statistics.median(latencies), 1), round(latencies[at], 1)


def _process(pid: int) -> tuple[int, int, float]:
    """Resident memory now and at most, MiB; processor time, seconds."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    times = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    used = (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")
    return int(status["VmRSS"].split()[0]) // 1024, int(status["VmHWM"].split()[0]) // 1024, used


def _requests(events: Sequence[dict[str, Any]], runs: int) -> tuple[int, int, int, int, float]:
    """All requests, writes, children, children written more than once, status writes a run."""
    ours = [event for event in events if event["user"]["username"] == USER]
    written = Counter(
        (event["objectRef"]["resource"], event["objectRef"].get("name") or event["requestObject"]["metadata"]["name"])
        for event in ours
        if _changes(event) and event["objectRef"]["resource"] != RUNS and event["verb"] != "delete"
    )
    statuses = sum(event["objectRef"].get("subresource") == "status" for event in ours if _changes(event))
    again = {name: count for name, count in written.items() if count > 1}
    if again:
        print(json.dumps([[*name, count] for name, count in list(again.items())[:5]]), file=sys.stderr)
    return len(ours), sum(map(_changes, ours)), len(written), len(again), round(statuses / runs, 1)


if __name__ == "__main__":
    main()
