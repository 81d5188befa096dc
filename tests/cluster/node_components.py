"""The configuration of a node's programs; `node.py` starts them. Pure."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.cluster.namespace import Addresses

SOCKET = "/run/containerd/containerd.sock"
PAUSE = "unisd.test/pause:1"
DOMAIN = "cluster.local"
SECRETS = Path("/run/secrets/kubernetes.io/serviceaccount")
POLICY_QUEUES = "/proc/net/netfilter/nfnetlink_queue"
# The agent would divert packets by nftables, which not every kernel can; its queue takes them from iptables as well.
TO_POLICIES = ("FORWARD", "-m", "conntrack", "--ctstate", "NEW", "-j", "NFQUEUE", "--queue-num", "100")


def containerd(folder: Path) -> str:
    """Images and snapshots below `folder`; containers by runc, their network by the plugins of Debian's package."""
    # Without CAP_SYS_RESOURCE no process can lower its score of being killed when memory ends.
    return f"""
version = 2
root = "{folder}/containerd"
state = "/run/containerd"
[grpc]
address = "{SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{folder}/cni"
"""


def bridge(pods: str) -> dict[str, Any]:
    """The network of pods: one bridge, addresses from the node's own subnet."""
    addresses = {"type": "host-local", "ranges": [[{"subnet": pods}]], "routes": [{"dst": "0.0.0.0/0"}]}
    plugin = {"type": "bridge", "bridge": "pods", "isGateway": True, "hairpinMode": True, "ipam": addresses}
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [plugin, ports]}


def kubelet(addresses: Addresses, group: str) -> dict[str, Any]:
    """A kubelet that asks for nothing of the machine, and keeps its pods in the control group `group`."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": addresses.node,
        # Nobody but this machine and the pods on it can reach it.
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{group}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "localStorageCapacityIsolation": False,
        "evictionHard": {"memory.available": "200Mi"},
        "imageGCHighThresholdPercent": 100,
        "clusterDNS": [addresses.node],
        "clusterDomain": DOMAIN,
        "resolvConf": "",
    }


def kube_proxy(addresses: Addresses, kubeconfig: Path) -> dict[str, Any]:
    """Services by iptables; the kernel's table of connections is left as it is."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "bindAddress": addresses.node,
        "clusterCIDR": addresses.pods,
        "mode": "iptables",
        "oomScoreAdj": 0,
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }


def corefile(kubeconfig: Path) -> str:
    """Names of Services and pods, and no others: nothing beyond the cluster is reached from here."""
    return f"""
{DOMAIN}:53 in-addr.arpa:53 {{
    errors
    kubernetes {DOMAIN} in-addr.arpa {{
        kubeconfig {kubeconfig}
        ttl 1
    }}
}}
"""


def reader(name: str) -> list[dict[str, Any]]:
    """A ServiceAccount of the system that may read everything but Secrets."""
    account = {"kind": "ServiceAccount", "name": name, "namespace": "kube-system"}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}
    metadata = {"name": name, "namespace": "kube-system"}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": role,
            "subjects": [account],
        },
    ]


def free_volume(name: str, path: Path, read_only: bool = False) -> dict[str, Any]:
    """A folder of this machine as a volume for any claim without a class."""
    modes = ["ReadOnlyMany"] if read_only else ["ReadWriteOnce", "ReadWriteMany"]
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Ti"},
            "accessModes": modes,
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": str(path), "type": "Directory"},
        },
    }


def volume(name: str, path: Path, read_only: bool, namespace: str) -> dict[str, Any]:
    """The same, set aside for the claim of its name in a namespace."""
    found = free_volume(f"{namespace}-{name}", path, read_only)
    found["spec"]["claimRef"] = {"namespace": namespace, "name": name}
    return found


def claim(name: str, namespace: str) -> dict[str, Any]:
    """The claim of a read-only volume."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "accessModes": ["ReadOnlyMany"],
            "resources": {"requests": {"storage": "1Ti"}},
            "storageClassName": "",
            "volumeName": f"{namespace}-{name}",
        },
    }


def written(file: Path, content: str | Mapping[str, Any]) -> Path:
    """The file, with this content in it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file
