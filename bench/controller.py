"""How the operator grows with the number of runs: memory, latency, requests; on a real control plane, nodes simulated.

    python -m bench.controller 10 100 500 [--components 4] [--rate 18] [--train]

Times are the API server's own, from its audit log: from the answer to a run's creation to the answer to the first write
of a child. With `--train` preparation ends at once and every component gets its pods, which stay; without it runs stay
in preparation, as many as are created. The processes of the control plane take the same processors as the operator.
What was measured with it: docs/operator/scale.md.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aiohttp

from tests.cluster.cluster import Cluster
from tests.operator.controller.harness import Operator, install, manifest, pod
from tests.operator.controller.proxy import tls

USER = "operator"
WRITES = {"create", "update", "patch", "delete"}
RUNS = "selfdistillruns"
Event = dict[str, Any]
"""One entry of the audit log."""


@dataclass(frozen=True)
class Options:
    """How a size is measured."""

    components: int = 4
    rate: float = 18.0
    """Runs created a second."""
    train: bool = False
    """Whether every component gets its pods."""
    settle: float = 20.0
    """Seconds without a write that end the work."""
    resync: float = 60.0
    """The operator's resyncSeconds. It is watched for a little more than two of them when the work has ended."""


@dataclass(frozen=True)
class Measured:
    """What one size took."""

    runs: int
    created: float
    """Runs created a second."""
    p50: float
    """From a run's creation to its first child, milliseconds."""
    p99: float
    resident: int
    """MiB, at the end."""
    peak: int
    """MiB."""
    processor: float
    """Seconds of processor time of the operator until the work had ended, its start included."""
    requests: Counter[str]
    """By verb and resource, until the work had ended."""
    written: Counter[str]
    """Writes of each child, by resource and name; deletions are none."""
    idle: tuple[str, ...]
    """Writes in the two resyncs afterwards."""
    load: float
    """Load average of the machine at the end of the work, one minute."""

    @property
    def again(self) -> dict[str, int]:
        """Children that were written more than once."""
        return {name: count for name, count in self.written.items() if count > 1}


def main() -> None:
    """Measures each size on a fresh cluster and prints a table, then the requests by kind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("runs", type=int, nargs="+")
    parser.add_argument("--components", type=int, default=Options.components)
    parser.add_argument("--rate", type=float, default=Options.rate, help="runs created a second")
    parser.add_argument("--train", action="store_true", help="let every component get its pods")
    given = parser.parse_args()
    options = Options(given.components, given.rate, given.train)
    print("\n".join(_set_up()))
    print(f"\n{' | '.join(COLUMNS)}\n{' | '.join('---:' for _ in COLUMNS)}")
    sizes = []
    for runs in given.runs:
        sizes.append(measure(runs, options))
        print(_row(sizes[-1]), flush=True)
    print("\n".join(_by_kind(sizes)))


COLUMNS = (
    "runs", "created/s", "first child p50 ms", "p99 ms", "resident MiB", "peak MiB", "CPU ms/run", "requests/run",
    "children", "written twice", "writes while idle", "load",
)  # fmt: skip


def _set_up() -> Iterator[str]:
    """The machine and the versions."""
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    yield f"{os.cpu_count()} cores ({platform.machine()}), shared with the control plane; load average {load}"
    names = ("kopf", "kubernetes", "aiohttp", "pydantic")
    yield f"Python {platform.python_version()}, {', '.join(f'{name} {version(name)}' for name in names)}"


def _row(size: Measured) -> str:
    each = (round(1000 * size.processor / size.runs), round(size.requests.total() / size.runs, 1))
    values = (
        size.runs, round(size.created, 1), round(size.p50, 1), round(size.p99, 1), size.resident, size.peak, *each,
        len(size.written), len(size.again), len(size.idle), round(size.load, 1),
    )  # fmt: skip
    return " | ".join(map(str, values))


def _by_kind(sizes: Sequence[Measured]) -> Iterator[str]:
    """Requests by verb and resource: a line each, a column a size."""
    yield f"\nrequest | {' | '.join(f'{size.runs} runs' for size in sizes)}\n--- | {' | '.join('---:' for _ in sizes)}"
    for kind in sorted({kind for size in sizes for kind in size.requests}):
        yield f"{kind} | {' | '.join(str(size.requests[kind]) for size in sizes)}"
    for size in sizes:
        for what in (json.dumps(size.again), *size.idle) if size.again or size.idle else ():
            print(f"{size.runs} runs: {what}", file=sys.stderr)


def measure(runs: int, options: Options) -> Measured:
    """One size, on a cluster of its own."""
    with Cluster() as cluster:
        install(cluster)
        cluster.add_volumes(runs)
        for index in range(runs * options.components // 250 if options.train else runs // 50):
            cluster.add_fake_node(f"node-{index}", gpus=1000)
        namespace = cluster.create_namespace("bench")
        settings = {"leaderElection": False, "progressSeconds": 10.0, "resyncSeconds": options.resync}
        replica = Operator(cluster, user=USER, **settings)
        time.sleep(5)
        rate = asyncio.run(_create(cluster, namespace, runs, options))
        load = os.getloadavg()[0]
        _settle(cluster, options.settle)
        events, since = list(_answered(cluster.audit())), cluster.audit_position()
        processor = _processor(replica.process.pid)
        time.sleep(2.2 * options.resync)
        p50, p99 = _quantiles(sorted(_latencies(events)))
        ours = [event for event in events if event["user"]["username"] == USER]
        written = Counter(_name(event) for event in ours if _writes_child(event))
        requests = Counter(_kind(event) for event in ours)
        idle = tuple(_name(event) for event in _answered(cluster.audit(USER, since)) if _changes(event))
        memory = _memory(replica.process.pid)
        return Measured(runs, rate, p50, p99, *memory, processor, requests, written, idle, load)


async def _create(cluster: Cluster, namespace: str, runs: int, options: Options) -> float:
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


def _answered(events: Sequence[Event]) -> Iterator[Event]:
    return (event for event in events if event["stage"] == "ResponseComplete" and "objectRef" in event)


def _changes(event: Event) -> bool:
    """Whether a request asked for a change; a Secret's, which is never read and applied again, aside."""
    return event["verb"] in WRITES and event.get("objectRef", {}).get("resource") not in ("leases", "secrets", "events")


def _writes_child(event: Event) -> bool:
    return _changes(event) and event["verb"] != "delete" and event["objectRef"]["resource"] != RUNS


def _name(event: Event) -> str:
    """`resource/name` of what a request is about."""
    at = event["objectRef"]
    return f"{at['resource']}/{at.get('name') or event['requestObject']['metadata']['name']}"


def _kind(event: Event) -> str:
    """`verb resource` of a request, with the subresource."""
    at = event["objectRef"]
    return f"{event['verb']} {at['resource']}" + (f"/{at['subresource']}" if "subresource" in at else "")


def _latencies(events: Sequence[Event]) -> list[float]:
    """Milliseconds from the creation of each run to its first child."""
    created: dict[str, datetime] = {}
    first: dict[str, datetime] = {}
    for event in events:
        reference, when = event["objectRef"], datetime.fromisoformat(event["stageTimestamp"])
        if event["verb"] == "create" and reference["resource"] == RUNS:
            created[event["requestObject"]["metadata"]["name"]] = when
        elif event["user"]["username"] == USER and _writes_child(event):
            first.setdefault(_name(event).partition("/")[2][: len("run-0000")], when)
    return [(first[name] - when).total_seconds() * 1000 for name, when in created.items() if name in first]


def _quantiles(latencies: Sequence[float]) -> tuple[float, float]:
    """Median and 99th percentile."""
    return statistics.median(latencies), latencies[min(len(latencies) - 1, int(len(latencies) * 0.99))]


def _memory(pid: int) -> tuple[int, int]:
    """Resident memory now and at most, MiB."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status["VmRSS"].split()[0]) // 1024, int(status["VmHWM"].split()[0]) // 1024


def _processor(pid: int) -> float:
    """Processor time so far, seconds."""
    times = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
