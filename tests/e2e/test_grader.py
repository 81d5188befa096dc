"""The grader's pod of a run under the attacks of the sandbox's tests, sent as its clients send programs."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.cluster.node import NodeCluster
from tests.cluster.waiting import eventually
from tests.e2e.runs import manifest, pods_of, start, trainers, trains
from tests.tasks.attacks import FORK_BOMB, RIGHT, TESTS, THREADED, TRICKS

ROWS = Path(__file__).parents[2] / "examples/data/mbpp/train.jsonl"
ASK = """
import json, sys
from unisd.tasks.grading import verdicts
from unisd.tasks.sandbox import Program
sources, tests = json.load(sys.stdin)
print(json.dumps([verdict.outcome for verdict in verdicts([Program(source, tests) for source in sources])]))
"""
# Files where the grader itself may write, or its container could.
LEAVES = """
for folder in ("/scratch", "/tmp", "/dev/shm", "/dev", "/opt/unisd", "/"):
    try:
        open(f"{folder}/left", "w")
    except OSError:
        pass
open("/dev/termination-log", "w").write("x")
"""
SEARCH = "find / -path /proc -prune -o -name left -print 2>/dev/null; true"
PROCESSES = "ls -d /proc/[0-9]*"
SECRETS = ("/proc/1/environ", "/proc/self/environ", "/etc/passwd", "/opt/unisd/src/unisd/tasks/grader.py")
READS = [f"def f(x):\n    return open({file!r}).read() and x + 1" for file in SECRETS]


def test_no_attack_passes_leaves_the_sandbox_or_ends_the_grader(node: NodeCluster, team: str) -> None:
    probes = {"everySteps": 100_000, "probeExamples": 4}  # for which the trainer may ask the grader
    endless = {"maxSteps": 100_000}
    run = manifest("graded", task={"name": "mbpp"}, training=endless, trainer={"numNodes": 1}, evaluation=probes)
    folder = start(node, team, run, rows=ROWS.read_text(encoding="utf-8"))
    trains(folder)
    assert judged(node, team, [RIGHT, THREADED]) == ["passed", "passed"]
    (before,) = pods_of(node, team, "grader")
    running = len(inside(node, team, PROCESSES).split())

    attacks = [*TRICKS, FORK_BOMB, LEAVES + RIGHT, *READS, *reaches(node, before)]
    outcomes = dict(zip(attacks, judged(node, team, attacks), strict=True))
    assert [attack for attack, outcome in outcomes.items() if outcome == "passed"] == []
    assert judged(node, team, [RIGHT]) == ["passed"]

    (after,) = pods_of(node, team, "grader")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["status"]["containerStatuses"][0]["restartCount"] == 0
    assert inside(node, team, SEARCH) == ""
    eventually(lambda: len(inside(node, team, PROCESSES).split()) <= running)


def judged(node: NodeCluster, namespace: str, sources: Iterable[str]) -> list[str]:
    """What the grader says of programs that a trainer's pod sends."""
    (trainer,) = trainers(node, namespace)
    given = json.dumps([list(sources), TESTS])
    said = node.kubectl("exec", "-i", trainer, "-n", namespace, "--", "python", "-c", ASK, input=given)
    outcomes: list[str] = json.loads(said)
    return outcomes


def reaches(node: NodeCluster, pod: dict[str, Any]) -> list[str]:
    """Programs that look for somebody: the grader itself, the API server, a name."""
    places = ((pod["status"]["podIP"], 8002), (node.address, 6443), ("kubernetes.default.svc", 443))
    return [
        f"import socket\ndef f(x):\n    socket.create_connection({place!r}, 2)\n    return x + 1" for place in places
    ]


def inside(node: NodeCluster, namespace: str, command: str) -> str:
    """What a command of the shell prints in the grader's pod."""
    (grader,) = pods_of(node, namespace, "grader")
    return node.kubectl("exec", grader["metadata"]["name"], "-n", namespace, "--", "sh", "-c", command)
