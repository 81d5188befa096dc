"""Install, upgrade and uninstall in every order, with runs and children there: nothing is stuck, kept claims are kept."""

from typing import Any

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.processes import Process
from tests.cluster.waiting import eventually
from tests.operator.charts.installation import DEADLINE, NAMESPACE, helm, install, operate, restarted, uninstall
from tests.operator.controller.harness import children, ends, manifest, status

TEAM = "team-a"


@pytest.fixture
def installed(fresh_cluster: Cluster) -> tuple[Cluster, Process]:
    """Both charts, the operator at work, one finished run and one that trains, each with a claim to be kept."""
    cluster = fresh_cluster
    cluster.create_namespace(TEAM)
    cluster.create_namespace(NAMESPACE)
    cluster.add_fake_node("node-a", gpus=16)
    cluster.add_volumes(4)
    # Kubernetes' garbage collector looks for new resources every 30 s; owned by one that it never knew, children stay.
    knows, log = 'Caches are synced" controller="garbage collector"', cluster.processes["kube-controller-manager"].log
    eventually(lambda: knows in log())
    before = len(log())
    install(cluster, "unisd-crds")
    install(cluster, "unisd-operator")
    process = operate(cluster)
    retained: dict[str, Any] = {"storage": {"policy": "Retain"}}
    with restarted(process):
        cluster.apply(manifest("done", **retained), manifest("training", trains=None, **retained), namespace=TEAM)
        ends(cluster, TEAM, "done")
        # The trainer and its server: those of the other run are gone.
        eventually(lambda: _trains(cluster) and len(_pods(cluster)) == 2)
        eventually(lambda: knows in log()[before:])
    return cluster, process


def _trains(cluster: Cluster) -> bool:
    """Whether all pods of run `training` are there."""
    return bool(status(cluster, TEAM, "training").get("components", [{}])[0].get("phase") == "Training")


def _phase(cluster: Cluster, run: str) -> str:
    phase: str = cluster.json("get", "sdr", run, "-n", TEAM).get("status", {}).get("phase", "")
    return phase


def _pods(cluster: Cluster) -> list[Any]:
    """Pods of runs that have not ended."""
    found = children(cluster, TEAM, "pods")
    return [pod for pod in found if pod["status"].get("phase") in ("Pending", "Running")]


def _claims(cluster: Cluster) -> set[str]:
    return {claim["metadata"]["name"] for claim in children(cluster, TEAM, "persistentvolumeclaims")}


def _only_claims_are_left(cluster: Cluster) -> None:
    def gone() -> bool:
        left = [f"{child['kind']} {child['metadata']}" for child in children(cluster, TEAM, LEFT)]
        assert not left, left
        return True

    eventually(gone, within=DEADLINE)
    assert _claims(cluster) == {"done", "training"}


LEFT = "jobs,deployments,services,configmaps,secrets,networkpolicies,poddisruptionbudgets,pods"


def _uninstall_operator(cluster: Cluster, process: Process) -> None:
    """Helm deletes the Deployment first of all: its pod is told to end, and here has, before its account is gone."""
    assert process.stop(within=DEADLINE) == 0, process.log()
    uninstall(cluster, "unisd-operator")


def test_operator_first(installed: tuple[Cluster, Process]) -> None:
    cluster, process = installed
    runs = cluster.json("get", "sdr", "-n", TEAM)["items"]
    assert not [run for run in runs if run["metadata"].get("finalizers")]

    _uninstall_operator(cluster, process)
    assert _pods(cluster), "training goes on without an operator"
    uninstall(cluster, "unisd-crds")
    assert _phase(cluster, "done") == "Succeeded", "the resource is kept"

    cluster.kubectl("delete", "crd", "selfdistillruns.unisd.dev", f"--timeout={DEADLINE}s")
    _only_claims_are_left(cluster)
    cluster.kubectl("delete", "namespace", TEAM, NAMESPACE, f"--timeout={DEADLINE}s")


def test_resource_first(installed: tuple[Cluster, Process]) -> None:
    cluster, process = installed

    with restarted(process):
        uninstall(cluster, "unisd-crds")
        cluster.kubectl("delete", "crd", "selfdistillruns.unisd.dev", f"--timeout={DEADLINE}s")
        _only_claims_are_left(cluster)
    _uninstall_operator(cluster, process)  # which may have ended by itself: what it watched is gone
    assert not children(cluster, TEAM, LEFT)


def test_namespaces_first(installed: tuple[Cluster, Process]) -> None:
    cluster, process = installed

    with restarted(process):
        cluster.kubectl("delete", "namespace", TEAM, f"--timeout={DEADLINE}s")
    assert process.alive(), process.log()
    cluster.kubectl("delete", "namespace", NAMESPACE, f"--timeout={DEADLINE}s")
    process.stop(within=DEADLINE)
    uninstall(cluster, "unisd-crds")
    cluster.kubectl("delete", "crd", "selfdistillruns.unisd.dev", f"--timeout={DEADLINE}s")
    cluster.kubectl("delete", "clusterrole,clusterrolebinding", "unisd-operator")


def test_upgrade_and_reinstall_keep_runs_and_restart_nothing(installed: tuple[Cluster, Process]) -> None:
    cluster, process = installed
    before = _running(cluster)

    install(cluster, "unisd-crds", {"annotations": {"example.com/revision": "2"}})
    install(cluster, "unisd-operator", {"settings": {"workers": 4}, "labels": {"example.com/team": "ml"}})
    assert process.stop(within=DEADLINE) == 0
    operate(cluster, "upgraded")
    assert _running(cluster) == before

    uninstall(cluster, "unisd-operator")
    uninstall(cluster, "unisd-crds")
    assert _phase(cluster, "done") == "Succeeded"
    install(cluster, "unisd-crds")
    install(cluster, "unisd-operator")
    operate(cluster, "reinstalled")
    cluster.apply(manifest("new"), namespace=TEAM)
    ends(cluster, TEAM, "new")
    assert _running(cluster) == before


def _running(cluster: Cluster) -> Any:
    """What must not change: identity of runs, of their pods, and what the key of rollout servers is."""
    runs = {run["metadata"]["name"]: run["metadata"] for run in cluster.json("get", "sdr", "-n", TEAM)["items"]}
    kept = {name: (runs[name]["uid"], runs[name]["generation"]) for name in ("done", "training")}
    pods = {pod["metadata"]["uid"] for pod in _pods(cluster)}
    key = cluster.json("get", "secret", "unisd-operator-key", "-n", NAMESPACE)["data"]
    return kept, pods, key


@pytest.mark.parametrize("namespaces", [[], [TEAM]], ids=["cluster-wide", "namespaced"])
def test_operator_before_resource_and_a_resource_that_comes_back(fresh_cluster: Cluster, namespaces: list[str]) -> None:
    cluster = fresh_cluster
    cluster.create_namespace(TEAM)
    cluster.create_namespace(NAMESPACE)
    cluster.add_fake_node("node-a")
    cluster.add_volumes(4)
    install(cluster, "unisd-operator", {"namespaces": namespaces})
    assert "unisd-crds" in helm(cluster, "get", "notes", "unisd-operator", "-n", NAMESPACE)
    process = operate(cluster)

    for run in ("early", "again"):
        install(cluster, "unisd-crds")
        eventually(lambda run=run: cluster.apply(manifest(run), namespace=TEAM) is None)
        # It may end, to watch what is new or because that is gone; a kubelet starts it again.
        eventually(lambda run=run: _restarted(process) and _phase(cluster, run) == "Succeeded", within=2 * DEADLINE)
        cluster.kubectl("delete", "crd", "selfdistillruns.unisd.dev", f"--timeout={DEADLINE}s")
        uninstall(cluster, "unisd-crds")
    if namespaces:  # it may not read CRDs: its watch alone tells it that they are gone, and it ends to begin anew
        assert process.wait(within=DEADLINE) == 0, process.log()


def _restarted(process: Process) -> bool:
    if not process.alive():
        process.restart()
    return True
