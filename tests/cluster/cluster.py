"""A real Kubernetes control plane on a loopback address of its own: started, used by tests, ended without a trace.

`Cluster` is what tests and `make cluster` use; README.md beside this file states its interface. Simulated nodes are in
`kwok.py`, queues in `kueue.py`, a real node in `node.py`. Here is no container engine: pods stay Pending.
"""

import json
import secrets
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.cluster import kueue, kwok
from tests.cluster.binaries import binary
from tests.cluster.certificates import Authority, encoded
from tests.cluster.components import Layout, api_server, controller_manager, etcd, scheduler
from tests.cluster.processes import Household, Process
from tests.cluster.waiting import eventually

READY_WITHIN = 180
# So small a heap is collected so often, at Go's default, that it takes a quarter of the API server's time.
GARBAGE = {"GOGC": "400"}
COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")


class KubectlError(AssertionError):
    """kubectl refused; its stderr is the message. An `AssertionError`, so that `eventually` tries again."""


class Cluster:
    """One control plane; `with Cluster() as cluster:` starts and ends it. `flags` are added to those of a component."""

    def __init__(self, flags: Mapping[str, Sequence[str]] | None = None):
        unknown = set(flags or {}) - set(COMPONENTS)
        if unknown:
            raise ValueError(f"flags for {sorted(unknown)}: the components are {COMPONENTS}")
        self._flags = flags or {}
        self._ends = ExitStack()

    def __enter__(self) -> Self:
        self._household = Household("unisd-cluster-")
        self.folder = self._household.folder
        try:
            self.address = self._claim_address()
            self.server = f"https://{self.address}:6443"
            self._start()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._close()

    @property
    def processes(self) -> dict[str, Process]:
        """Everything that was started here, by name."""
        return self._household.processes

    def start(self, name: str, *command: str | Path, env: Mapping[str, str] | None = None) -> Process:
        """Starts a further program that ends with the cluster; its output goes to `folder/logs/NAME.log`."""
        return self._household.start(name, *command, env=env)

    def kubectl(self, *arguments: str, input: str | None = None, kubeconfig: Path | None = None) -> str:  # noqa: A002
        """Runs kubectl as the administrator, or with another kubeconfig, and returns what it prints.

        Raises `KubectlError` with its stderr.
        """
        options = [f"--kubeconfig={kubeconfig or self.kubeconfig}", f"--cache-dir={self.folder / 'kubectl'}"]
        command = [str(binary("kubectl")), *options, *arguments]
        ended = subprocess.run(command, input=input, capture_output=True, text=True, check=False)
        if ended.returncode != 0:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {ended.stderr.strip()}")
        return ended.stdout

    def json(self, *arguments: str, kubeconfig: Path | None = None) -> Any:
        """`kubectl … -o json`, parsed."""
        return json.loads(self.kubectl(*arguments, "-o", "json", kubeconfig=kubeconfig))

    def apply(self, *objects: Mapping[str, Any], namespace: str | None = None) -> None:
        """Applies objects on the server's side, all in `namespace` if it is given."""
        items = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        where = ["-n", namespace] if namespace else []
        self.kubectl("apply", "--server-side", "--force-conflicts", *where, "-f", "-", input=items)

    def create_namespace(self, name: str | None = None, pod_security: str = "restricted") -> str:
        """Makes a namespace in which pods can be created, its Pod Security level enforced; returns its name."""
        name = name or f"test-{secrets.token_hex(4)}"
        labels = {"pod-security.kubernetes.io/enforce": pod_security}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        eventually(lambda: self.kubectl("get", "serviceaccount", "default", "-n", name))
        return name

    def user_kubeconfig(self, name: str, groups: Sequence[str] = ()) -> Path:
        """Kubeconfig of any user, who is in `groups` and may do what RBAC gives them."""
        pair = self.authority.user(name, tuple(groups))
        user = {"client-certificate-data": encoded(pair.certificate), "client-key-data": encoded(pair.key)}
        return self._write_kubeconfig(name, user)

    def service_account_kubeconfig(self, namespace: str, name: str) -> Path:
        """Kubeconfig of a ServiceAccount, by a token that is good for a day."""
        token = self.kubectl("create", "token", name, "-n", namespace, "--duration=24h")
        return self._write_kubeconfig(f"{namespace}-{name}", {"token": token.strip()})

    def audit_position(self) -> int:
        """Where the audit log ends now; `audit(since=…)` starts there."""
        return self._layout.audit.stat().st_size

    def audit(self, user: str | None = None, since: int = 0) -> list[dict[str, Any]]:
        """Audit events from position `since` on, of one user or of all, in the order of the answers."""
        with self._layout.audit.open("rb") as log:
            log.seek(since)
            text = log.read()
        lines = text[: text.rfind(b"\n") + 1].splitlines()
        events: list[dict[str, Any]] = [json.loads(line) for line in lines]
        return [event for event in events if user in (None, event["user"]["username"])]

    def start_kwok(self) -> None:
        """Starts what simulates nodes and their pods, unless it runs."""
        if "kwok" not in self.processes:
            kwok.start(self)

    def add_fake_node(self, name: str, gpus: int = 3, labels: Mapping[str, str] | None = None) -> None:
        """A simulated node that is Ready when this returns."""
        self.start_kwok()
        self.apply(kwok.node(name, self.address, gpus, labels or {}))
        eventually(lambda: kwok.schedulable(self.json("get", "node", name)))

    def set_pod_log(self, text: str) -> None:
        """Sets what `kubectl logs` shows of every container on a simulated node."""
        kwok.write_log(self.folder, text)

    def add_volumes(self, count: int, size: str = "1Ti") -> None:
        """Adds volumes that any claim without a storage class binds to: nothing provisions volumes here."""
        self.apply(*(kwok.volume(f"volume-{secrets.token_hex(4)}", size) for _ in range(count)))

    def start_kueue(self, configuration: Mapping[str, Any] | None = None) -> None:
        """Installs Kueue and starts its manager, ready when this returns; `configuration` is laid over its own."""
        kueue.start(self, configuration or {})

    def wait_for_kueue(self) -> None:
        """Returns when Kueue is ready again after a test has restarted it."""
        kueue.wait(self)

    def wait_for_api(self) -> None:
        """Returns when the API server is ready: at the start, and after a test has restarted it."""
        self.wait_for("kube-apiserver", lambda: self.kubectl("get", "--raw", "/readyz"))

    def wait_for(self, name: str, look: Callable[[], object]) -> None:
        """Until `look` returns something true by the work of process `name`.

        Raises `RuntimeError` with the end of its log if it ends, or if that takes more than `READY_WITHIN` seconds.
        """
        process = self.processes[name]

        def look_while_it_runs() -> object:
            if not process.alive():
                raise RuntimeError(f"{name} ended:\n{process.log()[-4000:]}")
            return look()

        try:
            eventually(look_while_it_runs, READY_WITHIN)
        except AssertionError as error:
            raise RuntimeError(f"{name}: {error}\n{process.log()[-4000:]}") from error

    def _claim_address(self) -> str:
        """An address that no other cluster uses, held until the end."""
        claim, address = claim_address()
        self._ends.enter_context(claim)
        return address

    def _start(self) -> None:
        self.authority = Authority(self.folder / "certificates")
        self._layout = Layout(self.folder, self.address, self.authority)
        self.kubeconfig = self.user_kubeconfig("admin", ["system:masters"])
        self._run("etcd", etcd(self._layout))
        self._run("kube-apiserver", api_server(self._layout))
        self.wait_for_api()
        for name, flags in (("kube-controller-manager", controller_manager), ("kube-scheduler", scheduler)):
            self._run(name, flags(self._layout, self.user_kubeconfig(f"system:{name}", ["system:masters"])))
        self.wait_for("kube-controller-manager", lambda: self.kubectl("get", "serviceaccount", "default"))

    def _run(self, name: str, flags: Sequence[str]) -> None:
        self.start(name, binary(name), *flags, *self._flags.get(name, ()), env=GARBAGE)

    def _close(self) -> None:
        self._household.close()
        self._ends.close()

    def _write_kubeconfig(self, name: str, user: Mapping[str, str]) -> Path:
        server = {"server": self.server, "certificate-authority-data": self.authority.encoded}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": server}],
            "users": [{"name": name, "user": dict(user)}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": name}}],
            "current-context": "test",
        }
        path = self.folder / "kubeconfigs" / f"{name.replace(':', '-')}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
        return path


def claim_address() -> tuple[socket.socket, str]:
    """A loopback address that no other cluster uses, so that ports need not be looked for; held by the socket."""
    for _ in range(100):
        address = f"127.{100 + secrets.randbelow(100)}.{secrets.randbelow(256)}.{1 + secrets.randbelow(254)}"
        claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            claim.bind((address, 6443))
        except OSError:
            claim.close()
        else:
            return claim, address
    raise RuntimeError("no loopback address is free")
