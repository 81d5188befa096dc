"""The test cluster keeps its promises, so that the tests which use it can rely on them."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.cluster import Cluster, KubectlError
from tests.cluster.objects import pod
from tests.cluster.waiting import PATIENCE, eventually

ROOT = Path(__file__).parents[2]


def status_of(cluster: Cluster, namespace: str, name: str) -> dict[str, Any]:
    status: dict[str, Any] = cluster.json("get", "pod", name, "-n", namespace)["status"]
    return status


def test_the_version_is_the_one_that_was_asked_for(cluster: Cluster) -> None:
    assert json.loads(cluster.kubectl("get", "--raw", "/version"))["gitVersion"] == "v1.34.4"


def test_pod_security_is_enforced_in_a_namespace(cluster: Cluster, namespace: str) -> None:
    lax = pod("lax")
    del lax["spec"]["containers"][0]["securityContext"]
    with pytest.raises(KubectlError, match="violates PodSecurity"):
        cluster.apply(lax, namespace=namespace)
    cluster.apply(pod("strict"), namespace=namespace)


def test_a_user_may_do_what_rbac_gives_them(cluster: Cluster, namespace: str) -> None:
    role = ("--clusterrole=view", "--group=readers", "-n", namespace)
    cluster.kubectl("create", "rolebinding", "readers", *role)
    reader = cluster.user_kubeconfig("ada", ["readers"])
    begin = cluster.audit_position()

    eventually(lambda: cluster.kubectl("get", "configmaps", "-n", namespace, kubeconfig=reader))
    with pytest.raises(KubectlError, match=r'User "ada" cannot create resource "configmaps"'):
        cluster.kubectl("create", "configmap", "c", "-n", namespace, kubeconfig=reader)

    events = cluster.audit(user="ada", since=begin)
    asked = [(event["verb"], event["objectRef"]["resource"], event["responseStatus"]["code"]) for event in events]
    assert ("list", "configmaps", 200) in asked
    assert ("create", "configmaps", 403) in asked


def test_a_service_account_is_who_it_is(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("create", "serviceaccount", "robot", "-n", namespace)
    kubeconfig = cluster.service_account_kubeconfig(namespace, "robot")
    review = cluster.json("auth", "whoami", kubeconfig=kubeconfig)
    assert review["status"]["userInfo"]["username"] == f"system:serviceaccount:{namespace}:robot"


def test_the_audit_log_has_bodies_but_none_of_secrets(cluster: Cluster, namespace: str) -> None:
    begin = cluster.audit_position()
    cluster.kubectl("create", "configmap", "open", "--from-literal=a=b", "-n", namespace)
    cluster.kubectl("create", "secret", "generic", "closed", "--from-literal=a=b", "-n", namespace)
    created = {event["objectRef"]["resource"]: event for event in cluster.audit(user="admin", since=begin)}
    assert created["configmaps"]["requestObject"]["data"] == {"a": "b"}
    assert created["secrets"]["responseStatus"]["code"] == 201
    assert "requestObject" not in created["secrets"]


def test_pods_on_a_simulated_node(cluster: Cluster, namespace: str) -> None:
    cluster.add_fake_node("simulated", gpus=3)
    cluster.set_pod_log("a line of a log\n")
    cluster.apply(
        pod("runs", gpus=2, pod_ip="127.0.0.9"),
        pod("succeeds", succeed_after="100ms", message="done"),
        pod("fails", fail_after="100ms", exit_code="137", reason="OOMKilled"),
        pod("waits", waiting="ImagePullBackOff"),
        namespace=namespace,
    )
    eventually(lambda: status_of(cluster, namespace, "runs")["phase"] == "Running")
    assert status_of(cluster, namespace, "runs")["podIP"] == "127.0.0.9"
    assert cluster.kubectl("logs", "runs", "-n", namespace) == "a line of a log\n"

    eventually(lambda: status_of(cluster, namespace, "succeeds")["phase"] == "Succeeded")
    eventually(lambda: status_of(cluster, namespace, "fails")["phase"] == "Failed")
    ended = status_of(cluster, namespace, "fails")["containerStatuses"][0]["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (137, "OOMKilled")
    said = status_of(cluster, namespace, "succeeds")["containerStatuses"][0]["state"]["terminated"]["message"]
    assert said == "done"

    waiting = eventually(lambda: status_of(cluster, namespace, "waits").get("containerStatuses", []))
    assert waiting[0]["state"]["waiting"]["reason"] == "ImagePullBackOff"
    assert status_of(cluster, namespace, "waits")["phase"] == "Pending"

    cluster.apply(pod("too-many", gpus=2), namespace=namespace)
    conditions = eventually(lambda: status_of(cluster, namespace, "too-many").get("conditions", []))
    assert "Insufficient nvidia.com/gpu" in conditions[0]["message"]

    cluster.kubectl("delete", "pod", "runs", "-n", namespace, "--wait=false")
    eventually(lambda: status_of(cluster, namespace, "too-many")["phase"] == "Running")
    cluster.kubectl("delete", "node", "simulated")


def test_claims_find_the_volumes(cluster: Cluster, namespace: str) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "claim"},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "200Gi"}}},
    }
    cluster.add_volumes(1)
    cluster.apply(claim, namespace=namespace)
    phase = ("get", "pvc", "claim", "-n", namespace, "-o", "jsonpath={.status.phase}")
    eventually(lambda: cluster.kubectl(*phase) == "Bound")


def test_a_component_that_was_killed_comes_back_with_what_was_there(fresh_cluster: Cluster) -> None:
    cluster = fresh_cluster
    cluster.kubectl("create", "configmap", "kept")
    for name in ("etcd", "kube-apiserver"):
        cluster.processes[name].restart()
    cluster.wait_for_api()
    assert "kept" in cluster.kubectl("get", "configmap", "kept")


def test_two_side_by_side_know_nothing_of_each_other(cluster: Cluster, fresh_cluster: Cluster) -> None:
    cluster.kubectl("create", "namespace", "only-here")
    assert fresh_cluster.address != cluster.address
    with pytest.raises(KubectlError, match="not found"):
        fresh_cluster.kubectl("get", "namespace", "only-here")
    cluster.kubectl("delete", "namespace", "only-here", "--wait=false")


def test_flags_of_a_component_that_is_none_are_refused() -> None:
    with pytest.raises(ValueError, match="kubelet"):
        Cluster(flags={"kubelet": ["--v=5"]})


@pytest.mark.cluster
def test_nothing_is_left_of_a_cluster_whose_process_was_killed() -> None:
    program = "import time; from tests.cluster.cluster import Cluster\n"
    program += (
        "with Cluster() as c: print(c.folder, *(p.pid for p in c.processes.values()), flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        folder, *pids = child.stdout.readline().split()
        assert len(pids) == 4
        child.send_signal(signal.SIGKILL)
    eventually(lambda: not Path(folder).exists())
    eventually(lambda: not any(is_running(int(pid)) for pid in pids))


def is_running(pid: int) -> bool:
    """Whether the process exists; one that nobody has waited for yet does not count."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.cluster
def test_by_hand(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.cluster", "--nodes=1"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        first, second = child.stdout.readline(), child.stdout.readline()
        kubeconfig = first.removeprefix("export KUBECONFIG=").strip()
        path = second.removeprefix("export PATH=").strip().replace("$PATH", os.environ["PATH"])
        environment = {"KUBECONFIG": kubeconfig, "PATH": path, "HOME": str(tmp_path)}
        shown = subprocess.check_output(["kubectl", "get", "nodes"], env=environment, text=True)
        child.send_signal(signal.SIGINT)
        assert child.wait(PATIENCE) == 0
    assert "node-0" in shown
    assert not Path(kubeconfig).exists()
