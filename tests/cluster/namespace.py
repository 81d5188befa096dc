"""A place for a node on this machine: network, mounts and processes of its own, tied to the host by one cable.

Whatever a node leaves in them (mounts, bridges, packet filter rules, containers) ends with the first process in them,
which the cluster's household kills. Used by `node.py`; needs root. Knows nothing of Kubernetes.
"""

import secrets
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.processes import Process
from tests.cluster.waiting import eventually

# The first process: reaps what is orphaned, and hides the host's state below /run, /var/lib and /var/log.
INIT = """
set -e
mount --make-rshared /
for folder in /run /var/lib /var/log; do mount -t tmpfs tmpfs "$folder"; done
ip link set lo up
echo 1 > /proc/sys/net/ipv4/ip_forward
touch "$0"
sleep infinity &
wait
"""
UNSHARE = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
# By nsenter's name for each, its file in /proc: `unshare` itself is not in the processes' namespace, its child is.
NAMESPACES = {"net": "net", "mount": "mnt", "pid": "pid_for_children"}
# A program whose nsenter is killed must not live on, out of reach.
DIES_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL")


@dataclass(frozen=True)
class Addresses:
    """Of 198.18.0.0/15, which is set aside for tests of networks: 256 for each node."""

    host: str
    """This machine as the node sees it."""
    node: str
    """The node as this machine sees it."""
    pods: str
    """The node's pods, a subnet."""


def free_addresses() -> Addresses:
    """Addresses that no other node has now."""
    taken = run("ip", "address")
    while True:
        prefix = f"198.{18 + secrets.randbelow(2)}.{secrets.randbelow(256)}"
        if f" {prefix}.1/" not in taken:
            return Addresses(f"{prefix}.1", f"{prefix}.2", f"{prefix}.128/25")


class Namespace:
    """Namespaces of one node, made by `start`, which runs a program that ends with the household."""

    def __init__(self, start: Callable[..., Process], folder: Path):
        self.addresses = free_addresses()
        ready = folder / "namespace"
        first = start("namespace", *UNSHARE, "sh", "-c", INIT, ready)
        eventually(lambda: ready.exists() or not first.alive())
        if not ready.exists():
            raise RuntimeError(f"no namespaces for a node (are you root?):\n{first.log()}")
        self._pid = first.pid
        self._lay_cable()

    def command(self, *words: str | Path) -> tuple[str, ...]:
        """A command line that runs another one in here."""
        where = [f"--{kind}=/proc/{self._pid}/ns/{file}" for kind, file in NAMESPACES.items()]
        return ("nsenter", *where, "--", *DIES_WITH_PARENT, *(str(word) for word in words))

    def run(self, *words: str | Path) -> str:
        """Runs a program in here to its end and returns what it prints; raises `RuntimeError` with its stderr."""
        return run(*self.command(*words))

    def seen(self, path: Path) -> Path:
        """A path of in here as this machine sees it, file systems that were mounted in here included."""
        return Path(f"/proc/{self._pid}/root{path}")

    def _lay_cable(self) -> None:
        """Two ends, gone with the node's network; the host finds pods by way of the node."""
        name, addresses = f"unisd-{secrets.token_hex(4)}", self.addresses
        run("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", str(self._pid))
        run("ip", "address", "add", f"{addresses.host}/30", "dev", name)
        run("ip", "link", "set", name, "up")
        self.run("ip", "address", "add", f"{addresses.node}/30", "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")
        self.run("ip", "route", "add", "default", "via", addresses.host)
        run("ip", "route", "add", addresses.pods, "via", addresses.node)


def run(*words: str | Path) -> str:
    """Runs a program to its end and returns what it prints; raises `RuntimeError` with its stderr."""
    command = [str(word) for word in words]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {ended.stderr.strip()[-4000:]}")
    return ended.stdout
