"""The real node runs pods as a node does, and leaves nothing behind."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import images, objects
from tests.cluster.node import NodeCluster
from tests.cluster.waiting import eventually

ROOT = Path(__file__).parents[2]
USER = 54321


def pod(name: str, *command: str, **container: Any) -> dict[str, Any]:
    """A pod of the base image under a user that nobody knows."""
    found = objects.pod(name)
    found["metadata"]["labels"] = {"app": name}
    found["spec"]["securityContext"] = {"runAsUser": USER, "fsGroup": 1000}
    found["spec"]["terminationGracePeriodSeconds"] = 0
    found["spec"]["containers"][0] |= {"image": images.BASE, "command": list(command), **container}
    return found


@pytest.fixture
def place(node_cluster: NodeCluster) -> str:
    """A namespace of the node's cluster."""
    return node_cluster.create_namespace()


def status_of(cluster: NodeCluster, namespace: str, name: str) -> dict[str, Any]:
    status: dict[str, Any] = cluster.json("get", "pod", name, "-n", namespace)["status"]
    return status


def ends(cluster: NodeCluster, namespace: str, name: str) -> dict[str, Any]:
    """How the only container of a pod ended."""
    eventually(lambda: status_of(cluster, namespace, name)["phase"] in ("Succeeded", "Failed"))
    ended: dict[str, Any] = status_of(cluster, namespace, name)["containerStatuses"][0]["state"]["terminated"]
    return ended


def test_a_pod_finds_others_by_name_and_through_services(node_cluster: NodeCluster, place: str) -> None:
    server = "import http.server; http.server.test(http.server.SimpleHTTPRequestHandler, port=8000)"
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": 8000}]},
    }
    node_cluster.apply(service, pod("server", "python3", "-c", server, workingDir="/etc"), namespace=place)
    ask = "import urllib.request as r; print(r.urlopen('http://web/hostname', timeout=20).status)"
    api = "import socket; socket.create_connection(('kubernetes.default.svc', 443), 20)"
    node_cluster.kubectl("wait", "-n", place, "--for=condition=Ready", "pod/server", "--timeout=180s")
    client = pod("client", "python3", "-c", f"{ask}\n{api}")
    client["spec"]["restartPolicy"] = "OnFailure"  # it may be there before the node's rules for the Service
    node_cluster.apply(client, namespace=place)

    assert ends(node_cluster, place, "client")["exitCode"] == 0, node_cluster.kubectl("logs", "client", "-n", place)
    assert node_cluster.kubectl("logs", "client", "-n", place) == "200\n"
    assert node_cluster.kubectl("exec", "server", "-n", place, "--", "id", "-u").strip() == str(USER)


def test_folders_are_volumes(node_cluster: NodeCluster, place: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "given").write_text("given")
    node_cluster.add_folder("models", tmp_path, place)
    folder = node_cluster.add_volume("data", place)
    wanted = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": wanted}
    copies = pod("copies", "sh", "-c", "cp /models/given /data/ && ! touch /models/new")
    copies["spec"]["volumes"] = [{"name": n, "persistentVolumeClaim": {"claimName": n}} for n in ("models", "data")]
    mounts = [{"name": n, "mountPath": f"/{n}", "readOnly": n == "models"} for n in ("models", "data")]
    copies["spec"]["containers"][0]["volumeMounts"] = mounts
    node_cluster.apply(claim, copies, namespace=place)

    assert ends(node_cluster, place, "copies")["exitCode"] == 0, node_cluster.kubectl("logs", "copies", "-n", place)
    assert (folder / "given").read_text() == "given"
    assert (folder / "given").stat().st_uid == USER


def test_the_kubelet_tells_how_containers_end(node_cluster: NodeCluster, place: str) -> None:
    greedy = pod("greedy", "python3", "-c", "b'x' * (1 << 30)", resources={"limits": {"memory": "64Mi"}})
    missing = pod("missing", "true", image="unisd.test/missing:1", imagePullPolicy="Never")
    speaks = pod("speaks", "sh", "-c", "echo last words > /dev/termination-log; exit 7")
    node_cluster.apply(greedy, missing, speaks, namespace=place)

    assert ends(node_cluster, place, "greedy")["reason"] == "OOMKilled"
    spoken = ends(node_cluster, place, "speaks")
    assert (spoken["exitCode"], spoken["message"]) == (7, "last words\n")

    def reason() -> str:
        states = status_of(node_cluster, place, "missing").get("containerStatuses")
        return str(states[0]["state"]["waiting"]["reason"]) if states else ""

    eventually(lambda: reason() == "ErrImageNeverPull")


@pytest.mark.node
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_of_a_node_whose_process_was_killed(by: signal.Signals) -> None:
    before = traces()
    program = (
        # Also where the tests run in the background, and SIGINT is ignored from the start.
        "import signal, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from tests.cluster import images\nfrom tests.cluster.node import NodeCluster\n"
        "from tests.cluster.test_node import pod\nwith NodeCluster() as cluster:\n"
        "    cluster.load_image(images.pause())\n    cluster.load_image(images.base())\n"
        "    namespace = cluster.create_namespace()\n"
        "    cluster.apply(pod('sleeps', 'sleep', 'infinity'), namespace=namespace)\n"
        "    cluster.kubectl('wait', '-n', namespace, '--for=condition=Ready', 'pod/sleeps', '--timeout=180s')\n"
        "    print(cluster.folder, flush=True)\n    time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        folder = Path(child.stdout.readline().strip())
        made = traces() - before
        assert {kind for kind, _ in made} >= {"link", "group", "program"}
        child.send_signal(by)
    eventually(lambda: not folder.exists())

    def nothing_is_left() -> bool:
        left = traces() - before
        assert not left
        return True

    eventually(nothing_is_left)


def traces() -> set[tuple[str, str]]:
    """Everything on this machine that a node could leave behind, by kind."""
    links = json.loads(subprocess.check_output(["ip", "-json", "link"], text=True))
    rules = subprocess.run(["iptables-save"], capture_output=True, text=True, check=True).stdout.splitlines()
    found = {
        "link": [link["ifname"] for link in links],
        "mount": [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()],
        "rule": [line for line in rules if line.startswith("-")],
        "group": [str(path) for path in Path("/sys/fs/cgroup").glob("**/unisd-cluster-*")],
        "program": list(programs()),
        "forwarding": [Path("/proc/sys/net/ipv4/ip_forward").read_text()],
    }
    return {(kind, one) for kind, all_of_it in found.items() for one in all_of_it}


def programs() -> Iterator[str]:
    """Programs of nodes that run, each with its node's network: another node beside may start further ones."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            name = (path / "comm").read_text().strip()
            if name.startswith(("containerd", "kubelet", "kube-proxy", "coredns")):
                yield f"{name} in {(path / 'ns/net').readlink()}"
        except (FileNotFoundError, ProcessLookupError):
            continue
