"""The flags of the control plane's programs; `cluster.py` starts them. Pure, but for the files written by `Layout`."""

import json
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.certificates import Authority, KeyPair

# The first of the range of Services: the API server's own, as pods see it.
SERVICE = "10.96.0.1"
# Bodies only where a test reads them: of those who write to the API from outside. Never of Secrets.
OWN_COMPONENTS = [
    "system:apiserver",
    "system:kube-controller-manager",
    "system:kube-scheduler",
    "system:kwok",
    "system:kueue",
    "system:kubelet",
    "system:kube-proxy",
    "system:coredns",
]
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "omitManagedFields": True,
    "rules": [
        {"level": "Metadata", "users": OWN_COMPONENTS},
        {"level": "Metadata", "resources": [{"group": "", "resources": ["secrets", "serviceaccounts/token"]}]},
        {"level": "Request"},
    ],
}


@dataclass(frozen=True)
class Layout:
    """Where the files of one cluster lie, and its address."""

    folder: Path
    address: str
    authority: Authority

    @property
    def audit(self) -> Path:
        """The audit log, one event a line."""
        return self.folder / "audit.jsonl"

    @property
    def etcd(self) -> str:
        """URL of etcd."""
        return f"http://{self.address}:2379"

    def server_certificate(self) -> KeyPair:
        """Of the API server, which also signs the tokens of ServiceAccounts by it."""
        names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost")
        addresses = (f"IP:{self.address}", f"IP:{SERVICE}")
        return self.authority.server("kube-apiserver", *(f"DNS:{name}" for name in names), *addresses)


def etcd(layout: Layout) -> list[str]:
    """Everything in a folder that is thrown away, so nothing waits for the disk."""
    peers = f"http://{layout.address}:2380"
    return [
        f"--data-dir={layout.folder / 'etcd'}",
        f"--listen-client-urls={layout.etcd}",
        f"--advertise-client-urls={layout.etcd}",
        f"--listen-peer-urls={peers}",
        f"--initial-advertise-peer-urls={peers}",
        f"--initial-cluster=default={peers}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def api_server(layout: Layout) -> list[str]:
    """RBAC, users by certificate, ServiceAccounts by token, default admission, every request in the audit log."""
    serving = layout.server_certificate()
    policy = layout.folder / "audit-policy.json"
    policy.write_text(json.dumps(AUDIT_POLICY))
    return [
        f"--etcd-servers={layout.etcd}",
        f"--bind-address={layout.address}",
        f"--advertise-address={layout.address}",
        "--secure-port=6443",
        # No node could reach the address that it would publish.
        "--endpoint-reconciler-type=none",
        "--service-cluster-ip-range=10.96.0.0/16",
        f"--tls-cert-file={serving.certificate}",
        f"--tls-private-key-file={serving.key}",
        f"--client-ca-file={layout.authority.pair.certificate}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={serving.certificate}",
        f"--service-account-signing-key-file={serving.key}",
        "--authorization-mode=RBAC",
        "--kubelet-preferred-address-types=InternalIP",
        f"--audit-policy-file={policy}",
        f"--audit-log-path={layout.audit}",
        "--audit-log-maxsize=100000",  # MB: one file, never rotated
    ]


def controller_manager(layout: Layout, kubeconfig: Path) -> list[str]:
    """All controllers under one user; with a ServiceAccount each, a start takes 5 s longer."""
    return [
        f"--kubeconfig={kubeconfig}",
        f"--service-account-private-key-file={layout.folder / 'certificates' / 'kube-apiserver.key'}",
        f"--root-ca-file={layout.authority.pair.certificate}",
        "--leader-elect=false",
        "--secure-port=0",
    ]


def scheduler(layout: Layout, kubeconfig: Path) -> list[str]:
    """The default profile."""
    return [f"--kubeconfig={kubeconfig}", "--leader-elect=false", "--secure-port=0"]
