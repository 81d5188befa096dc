"""NetworkPolicies of a run under a packet filter: what they let through is what `planning`'s tests say, and a run succeeds.

Pods that only listen stand for those of a run, with the labels and under the policies of a plan.
"""

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from unisd_operator.planning import network

from tests.cluster import images, objects
from tests.cluster.node import NodeCluster
from tests.cluster.waiting import eventually
from tests.e2e.installation import USER
from tests.e2e.runs import component_of, manifest, pods_of, start, status_of, succeeds, trains
from tests.operator.charts.installation import NAMESPACE
from tests.operator.planning.network_evaluator import End, Evaluator
from tests.operator.planning.world import attempt, resource

PORTS = (8000, 8002, 9400, 29500, 40000)
LISTEN = f"""
import socket, time
found = [socket.create_server(("", port), backlog=128) for port in {PORTS}]
time.sleep(3600)
"""
ASK = """
import concurrent.futures, json, socket, sys
def reaches(place):
    try:
        socket.create_connection(tuple(place), float(sys.argv[2])).close()
    except OSError:
        return False
    return True
with concurrent.futures.ThreadPoolExecutor(64) as pool:
    print(json.dumps(list(pool.map(reaches, json.loads(sys.argv[1])))))
"""
RUN = resource(name="walls", task={"name": "mbpp"})
STAR, OTHER = attempt(RUN, "star-1"), attempt(RUN, "sft-1")
LABELS: Mapping[str, Mapping[str, str]] = {
    "trainer-0": STAR.all_labels("train"),
    "trainer-1": STAR.all_labels("train"),
    "rollout": STAR.all_labels("rollout"),
    "evaluate": STAR.all_labels("evaluate"),
    "other-trainer": OTHER.all_labels("train"),
    "grader": attempt(RUN, "grader").all_labels("grader"),
    "prepare": attempt(RUN, "prepare").all_labels("prepare"),
    "stranger": {"app": "stranger"},
}
POLICIES = [
    network.trainer_policy(STAR),
    network.rollout_policy(STAR),
    network.client_policy(STAR, "evaluate"),
    network.trainer_policy(OTHER),
    network.grader_policy(attempt(RUN, "grader")),
    network.outward_policy(attempt(RUN, "prepare"), "prepare"),
]


@pytest.fixture(scope="module", autouse=True)
def walls(node: NodeCluster) -> Iterator[None]:
    """The node's packet filter keeps NetworkPolicies, if it can."""
    if not node.can_wall():
        pytest.skip("this kernel queues no packets: NFQUEUE is missing")
    with node.walls():
        yield


@pytest.fixture
def operator(node: NodeCluster) -> Iterator[str]:
    """A pod that stands for the operator; its name."""
    node.apply(listener("stand-in", {"app": "stand-in"}), namespace=NAMESPACE)
    yield "stand-in"
    node.kubectl("delete", "pod", "stand-in", "-n", NAMESPACE)


def test_exactly_the_flows_of_the_plan_pass_the_packet_filter(node: NodeCluster, team: str, operator: str) -> None:
    namespaces = {name: {"kubernetes.io/metadata.name": name} for name in (team, NAMESPACE)}
    policies = [moved(policy, team) for policy in POLICIES]
    node.apply(*policies, *(listener(name, labels) for name, labels in LABELS.items()), namespace=team)
    homes = {**dict.fromkeys(LABELS, team), operator: NAMESPACE}
    ends = {name: End(LABELS.get(name, {}), home, address_of(node, name, home)) for name, home in homes.items()}
    outside = End(address=node.address)
    places = [*((target, port) for target in ends for port in PORTS), ("outside", 6443)]
    evaluator = Evaluator(policies, namespaces)

    def difference(source: str) -> set[tuple[str, int]]:
        """Where the packet filter and the evaluator disagree; a pod reaches itself without either."""
        others = [(target, port) for target, port in places if target != source]
        targets = {**ends, "outside": outside}
        asked = [[targets[name].address, port] for name, port in others]
        there = reached_from(node, source, homes[source], asked, seconds=10)
        found = {place for place, reached in zip(others, there, strict=True) if reached}
        wanted = {(name, port) for name, port in others if evaluator.allows(ends[source], targets[name], port)}
        return found ^ wanted

    with ThreadPoolExecutor() as pool:
        assert dict(zip(ends, pool.map(difference, ends), strict=True)) == {name: set() for name in ends}


def test_a_run_succeeds_between_walls_and_nobody_else_reaches_its_pods(node: NodeCluster, team: str) -> None:
    node.apply(listener("stranger", {"app": "stranger"}), namespace=team)
    address_of(node, "stranger", team)
    folder = start(node, team, manifest("walled", training={"maxSteps": 60}))
    trains(folder)
    pods = pods_of(node, team, "train")
    asked = [[pod["status"]["podIP"], port] for pod in pods for port in (9400, 29500)]
    assert reached_from(node, "stranger", team, asked) == [False] * 4
    eventually(lambda: component_of(status_of(node, team, "walled")).get("progress", {}).get("step"))
    succeeds(node, team, "walled")


def moved(policy: Mapping[str, Any], namespace: str) -> dict[str, Any]:
    """A policy of a plan in another namespace, of no run."""
    return {**policy, "metadata": {"name": policy["metadata"]["name"], "namespace": namespace}}


def listener(name: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """A pod that accepts connections on all ports."""
    found = objects.pod(name)
    found["metadata"]["labels"] = dict(labels)
    found["spec"] |= {"securityContext": {"runAsUser": USER}, "terminationGracePeriodSeconds": 0}
    found["spec"]["containers"][0] |= {"image": images.BASE, "command": ["python3", "-c", LISTEN]}
    return found


def address_of(node: NodeCluster, name: str, namespace: str) -> str:
    """The address of a pod, once it is ready."""
    node.kubectl("wait", "-n", namespace, "--for=condition=Ready", f"pod/{name}", "--timeout=300s")
    return str(node.json("get", "pod", name, "-n", namespace)["status"]["podIP"])


def reached_from(node: NodeCluster, name: str, namespace: str, places: list[list[Any]], seconds: int = 3) -> list[bool]:
    """Which of these places a pod can connect to within some seconds."""
    ask = ("python3", "-c", ASK, json.dumps(places), str(seconds))
    found: list[bool] = json.loads(node.kubectl("exec", name, "-n", namespace, "--", *ask))
    return found
