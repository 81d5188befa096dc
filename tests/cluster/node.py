"""A cluster whose one node is real: containerd, kubelet, kube-proxy and DNS, in namespaces of their own. Needs root.

`NodeCluster` is a `Cluster` in which pods run. What makes the images that they run is in `images.py`. Leaves nothing on
the machine but caches: README.md tells how.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.cluster import node_components as components
from tests.cluster.binaries import binary
from tests.cluster.cluster import Cluster
from tests.cluster.kwok import schedulable
from tests.cluster.namespace import Namespace
from tests.cluster.node_components import written

NODE = "node"
GROUP = 1000
"""Group that may write to volumes: the installation's `fsGroup`."""


class NodeCluster(Cluster):
    """A control plane and a node; `with NodeCluster(gpus=4) as cluster:` starts and ends both.

    Its address is one that pods reach. `gpus` are told to the scheduler; there are none.
    """

    def __init__(self, gpus: int = 4, flags: Mapping[str, list[str]] | None = None):
        # Here an address can be published that pods reach: Kubernetes' own Service leads to it.
        reachable = {"kube-apiserver": ["--endpoint-reconciler-type=lease"]}
        super().__init__({**reachable, **(flags or {})})
        self._gpus = gpus

    def load_image(self, archive: Path) -> None:
        """Brings an image (docker-archive) to the node, under the name that stands in it."""
        self.namespace.run("ctr", "-a", components.SOCKET, "-n", "k8s.io", "images", "import", archive)

    def add_folder(self, claim: str, folder: Path, namespace: str) -> None:
        """Makes the claim `claim`, to read a folder of this machine that must be there."""
        self.apply(components.volume(claim, folder, True, namespace), components.claim(claim, namespace))

    def add_volume(self, claim: str, namespace: str, mib: int | None = None) -> Path:
        """A volume for a claim that somebody else makes, and the folder behind it; goes with the cluster.

        Args:
            claim: the claim's name.
            namespace: where it will be.
            mib: what the volume holds at most, then a file system of its own in memory; default: this machine's disk.
        """
        place = folder = self.folder / "volumes" / namespace / claim
        folder.mkdir(parents=True)
        if mib is not None:
            self.namespace.run("mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", folder)
            folder = self.namespace.seen(folder)
        open_to_pods(folder)
        self.apply(components.volume(claim, place, False, namespace))
        return folder

    def add_volumes(self, count: int, size: str = "1Ti") -> None:
        """Adds volumes that any claim without a storage class binds to; this machine's disk is all that bounds them."""
        for number in range(count):
            folder = self.folder / "volumes" / str(number)
            folder.mkdir(parents=True)
            open_to_pods(folder)
            self.apply(components.free_volume(f"volume-{number}", folder))

    @contextmanager
    def lost(self) -> Iterator[None]:
        """The node does not answer until the end of the block: its kubelet is dead, what it started runs on."""
        self.processes["kubelet"].kill()
        try:
            yield
        finally:
            self.processes["kubelet"].restart()
            self._take_in()

    def can_wall(self) -> bool:
        """Whether the kernel queues packets for a program; leaves a rule for an address that nobody has."""
        return succeeds(self.namespace, "iptables", "--append", "FORWARD", "-d", "192.0.2.1", "-j", "NFQUEUE")

    @contextmanager
    def walls(self) -> Iterator[None]:
        """NetworkPolicies are kept until the end of the block: an agent judges the first packet of each connection."""
        self._start_policies()
        self.namespace.run("iptables", "--insert", *components.TO_POLICIES)
        try:
            yield
        finally:
            self.namespace.run("iptables", "--delete", *components.TO_POLICIES)
            self.processes["kube-network-policies"].kill()

    def _claim_address(self) -> str:
        self.namespace = Namespace(self.start, self.folder)
        return self.namespace.addresses.host

    def _start(self) -> None:
        super()._start()
        self._start_containerd()
        self._start_network()
        self._start_kubelet()

    def _start_containerd(self) -> None:
        pods = components.bridge(self.namespace.addresses.pods)
        written(self.folder / "cni" / "pods.conflist", pods)
        file = written(self.folder / "containerd.toml", components.containerd(self.folder))
        self._run_inside("containerd", shutil.which("containerd") or "containerd", "--config", file)
        version = ("ctr", "-a", components.SOCKET, "version")
        self.wait_for("containerd", lambda: succeeds(self.namespace, *version))

    def _start_network(self) -> None:
        addresses = self.namespace.addresses
        proxy = components.kube_proxy(addresses, self._component_kubeconfig("kube-proxy"))
        file = written(self.folder / "kube-proxy.json", proxy)
        self._run_inside("kube-proxy", binary("kube-proxy"), "--config", file, f"--hostname-override={NODE}")
        names = components.corefile(self._component_kubeconfig("coredns"))
        self._run_inside("coredns", binary("coredns"), "-conf", written(self.folder / "Corefile", names))
        self.wait_for("coredns", lambda: "CoreDNS-" in self.processes["coredns"].log())

    def _start_kubelet(self) -> None:
        addresses = self.namespace.addresses
        group = make_control_group(self.folder.name)
        file = written(self.folder / "kubelet.json", components.kubelet(addresses, group))
        self._run_inside(
            "kubelet",
            binary("kubelet"),
            f"--config={file}",
            f"--kubeconfig={self._component_kubeconfig('kubelet')}",
            f"--root-dir={self.folder / 'kubelet'}",
            f"--cert-dir={self.folder / 'kubelet'}",
            f"--hostname-override={NODE}",
            f"--node-ip={addresses.node}",
        )
        self._take_in()

    def _take_in(self) -> None:
        """Until pods may come; a kubelet that starts takes back what others said of the node's resources."""
        self.wait_for("kubelet", lambda: schedulable(self.json("get", "node", NODE)))
        gpus = f'{{"status": {{"capacity": {{"nvidia.com/gpu": "{self._gpus}"}}}}}}'
        self.kubectl("patch", "node", NODE, "--subresource=status", "-p", gpus)

    def _start_policies(self) -> None:
        """The agent, which knows no other configuration than a pod's: a token and two variables."""
        name = "kube-network-policies"
        self.apply(*components.reader(name))
        place = self.namespace.seen(components.SECRETS)
        place.mkdir(parents=True)
        token = self.kubectl("create", "token", name, "-n", "kube-system", "--duration=24h")
        (place / "token").write_text(token.strip())
        shutil.copy(self.authority.pair.certificate, place / "ca.crt")
        options = (f"--hostname-override={NODE}", "--disable-nri", "--metrics-bind-address=127.0.0.1:9080")
        server = {"KUBERNETES_SERVICE_HOST": self.address, "KUBERNETES_SERVICE_PORT": "6443"}
        self.start(name, *self.namespace.command(binary(name), *options), env=server)
        self.wait_for(name, lambda: self.namespace.run("cat", components.POLICY_QUEUES).strip())

    def _run_inside(self, name: str, *command: str | Path) -> None:
        self.start(name, *self.namespace.command(*command))

    def _component_kubeconfig(self, name: str) -> Path:
        return self.user_kubeconfig(f"system:{name}", ["system:masters"])


def open_to_pods(folder: Path) -> None:
    """As what provisions volumes does for a pod's fsGroup; the kubelet never does it for folders of the node."""
    shutil.chown(folder, group=GROUP)
    folder.chmod(0o2775)


def succeeds(namespace: Namespace, *command: str) -> bool:
    """Whether a program in there ends well."""
    try:
        namespace.run(*command)
    except RuntimeError:
        return False
    return True


def make_control_group(name: str) -> str:
    """A control group in every hierarchy of this machine; the household removes those named like its folder."""
    root = Path("/sys/fs/cgroup")
    hierarchies = [root] if (root / "cgroup.procs").exists() else [path for path in root.iterdir() if path.is_dir()]
    for hierarchy in hierarchies:
        group = hierarchy / name
        group.mkdir(exist_ok=True)
        for inherited in ("cpuset.cpus", "cpuset.mems"):
            if (group / inherited).exists() and (hierarchy / inherited).read_text().strip():
                (group / inherited).write_text((hierarchy / inherited).read_text())
    return name
