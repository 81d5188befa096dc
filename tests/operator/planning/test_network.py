"""Every flow that a run needs is let through, and no other: over two runs, two arms and two attempts at once."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from unisd_operator.api import names as api
from unisd_operator.planning import network
from unisd_operator.settings import Network, Settings

from tests.operator.planning.network_evaluator import End, Evaluator
from tests.operator.planning.world import World, attempt, resource, status

PORTS = {
    "agent": 8000,
    "vllm": 8001,
    "grader": 8002,
    "metrics": 9400,
    "rendezvous": 29500,
    "high": 40000,
    "dns": 53,
    "dns-pod": 5353,
}
SETTINGS = Settings(network=Network(metrics_from=[{"namespaceSelector": {"matchLabels": {"role": "monitoring"}}}]))
NAMESPACES = {
    "lab": {"kubernetes.io/metadata.name": "lab"},
    "unisd-system": {"kubernetes.io/metadata.name": "unisd-system"},
    "monitoring": {"kubernetes.io/metadata.name": "monitoring", "role": "monitoring"},
    "other": {"kubernetes.io/metadata.name": "other"},
}
STRANGERS = {
    "operator": End({"app": "operator"}, "unisd-system", "10.0.9.1"),
    "prometheus": End({"app": "prometheus"}, "monitoring", "10.0.9.2"),
    "neighbour": End({"app": "x"}, "lab", "10.0.9.3"),
    "stranger": End({"app": "x"}, "other", "10.0.9.4"),
    "dns": End({"k8s-app": "kube-dns"}, "other", "10.0.9.5"),
    "hub": End(address="203.0.113.7"),
    "hub-ipv6": End(address="2001:db8::7"),
    "cloud-metadata": End(address="169.254.169.254"),
    "cloud-metadata-ipv6": End(address="fe80::a9fe:a9fe"),
    "cloud-metadata-aws": End(address="fd00:ec2::254"),
    "cloud-metadata-google": End(address="fd20:ce::254"),
}
RUNS = {uid: resource(name=f"run-{uid}", uid=uid, task={"name": "mbpp"}) for uid in ("r1", "r2")}
COPIES = (("star-1", 1), ("star-1", 2), ("sft-1", 1))


def _pods() -> Mapping[str, End]:
    """Pods of everything at once: more than ever lives together."""
    found: dict[str, End] = {}
    for uid, run in RUNS.items():
        for arm, number in COPIES:
            for role, copy in itertools.product(("train", "rollout", "evaluate", "results"), (0, 1)):
                labels = attempt(run, arm, number).all_labels(role)
                found[f"{uid}/{arm}/{number}/{role}/{copy}"] = End(labels, "lab", "10.0.0.1")
        for role in ("prepare", "contexts", "report", "push", "grader"):
            found[f"{uid}//1/{role}/0"] = End(attempt(run, role).all_labels(role), "lab", "10.0.0.2")
        found[f"{uid}//1/rollout/0"] = End(attempt(run, "contexts").all_labels("rollout"), "lab", "10.0.0.2")
    return found


def _policies() -> Iterator[Any]:
    for run in RUNS.values():
        for arm, number in COPIES:
            copy = attempt(run, arm, number, SETTINGS)
            yield from (network.trainer_policy(copy), network.rollout_policy(copy))
            yield from (network.client_policy(copy, "evaluate"), network.closed_policy(copy, "results"))
        contexts = attempt(run, "contexts", 1, SETTINGS)
        yield from (network.client_policy(contexts, "contexts"), network.rollout_policy(contexts))
        for stage in ("prepare", "push"):
            yield network.outward_policy(attempt(run, stage, 1, SETTINGS), stage)
        yield network.closed_policy(attempt(run, "report", 1, SETTINGS), "report")
        yield network.grader_policy(attempt(run, "grader", 1, SETTINGS))


def _needed(source: str, target: str, port: str) -> bool:
    """The specification: who must reach whom. Names are `run/arm/attempt/role/copy`, or a stranger's."""
    if target in STRANGERS:
        return _needed_outwards(source, target, port)
    target_run, target_arm, target_attempt, target_role, _ = target.split("/")
    if source in ("operator", "prometheus"):
        return port == "metrics" and target_role != "grader"
    if source in STRANGERS:
        return False
    run, arm, number, role, _ = source.split("/")
    if run != target_run:
        return False
    if target_role == "grader":
        return port == "grader" and role in ("evaluate", "contexts")
    if (arm, number) != (target_arm, target_attempt):
        return False
    if (role, target_role) == ("train", "train"):
        return True
    samples = arm.startswith("star")
    asks = role in ("evaluate", "contexts") or (role == "train" and samples)
    return target_role == "rollout" and port == "agent" and asks


def _needed_outwards(source: str, target: str, port: str) -> bool:
    if source in STRANGERS:
        return True
    role = source.split("/")[3]
    if port in ("dns", "dns-pod") and role not in ("rollout", "grader", "report", "results"):
        return True
    return role in ("prepare", "push") and not target.startswith("cloud-metadata")


def test_exactly_the_needed_flows_are_let_through() -> None:
    evaluator = Evaluator(list(_policies()), NAMESPACES)
    ends = {**_pods(), **STRANGERS}
    wrong = [
        (source, target, port, allowed)
        for (source, one), (target, other) in itertools.permutations(ends.items(), 2)
        for port, number in PORTS.items()
        if (allowed := evaluator.allows(one, other, number)) != _needed(source, target, port)
    ]
    assert wrong == []


def test_names_are_looked_up_over_udp() -> None:
    evaluator = Evaluator(list(_policies()), NAMESPACES)
    trainer, dns = _pods()["r1/star-1/1/train/0"], STRANGERS["dns"]
    assert evaluator.allows(trainer, dns, 53, "UDP")
    assert not evaluator.allows(_pods()["r1//1/grader/0"], dns, 53, "UDP")


def test_probes_in_training_reach_the_grader() -> None:
    run = resource(task={"name": "mbpp"}, evaluation={"everySteps": 10})
    policies = [network.grader_policy(attempt(run, "grader")), network.trainer_policy(attempt(run))]
    trainer = End(attempt(run).all_labels("train"), "lab")
    grader = End(attempt(run, "grader").all_labels("grader"), "lab")
    assert Evaluator(policies, NAMESPACES).allows(trainer, grader, 8002)


def test_an_installation_may_do_without() -> None:
    world = World(settings=Settings(network=Network(enabled=False)))
    run = resource(status({"prepare": "Starting"}, star_1="Starting"))
    assert "NetworkPolicy" not in {item["kind"] for item in world.plan(run).apply}


@pytest.mark.parametrize("phase", ["Starting", "Evaluating"])
def test_every_pod_that_a_plan_makes_is_under_a_policy(phase: str) -> None:
    run = resource(
        status(
            {"prepare": "Starting", "contexts": "Starting", "report": "Starting", "push": "Starting"},
            star_1=phase,
            sft_1=phase,
        ),
        task={"name": "mbpp"},
        outputs={"hub": {"repository": "me/exp"}},
    )
    applied = World().plan(run).apply
    evaluator = Evaluator(applied, NAMESPACES)
    makers = [item for item in applied if item["kind"] in ("Job", "Deployment")]
    assert makers
    for maker in makers:
        pod = End(maker["spec"]["template"]["metadata"]["labels"], "lab")
        assert not evaluator.allows(STRANGERS["neighbour"], pod, 9400), maker["metadata"]["name"]
        fetches = pod.labels[api.ROLE] in ("prepare", "push")
        assert evaluator.allows(pod, STRANGERS["neighbour"], 9400) == fetches, maker["metadata"]["name"]
        assert pod.labels[api.MANAGED_BY] == api.FIELD_MANAGER
