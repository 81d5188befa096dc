"""Kueue beside a test cluster, not in it: its manifests are applied, its manager runs as a process. `Cluster.start_kueue`.

Its webhooks are called by URL instead of through a Service, since no pod network leads from the API server to it; of
them those for Kueue's own kinds are kept: the others would refuse every Job and Pod while Kueue is down.
"""

import json
import subprocess
import urllib.request
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml

from tests.cluster.binaries import binary, module_folder
from tests.cluster.certificates import RSA, Authority, KeyPair

if TYPE_CHECKING:
    from tests.cluster.cluster import Cluster

GROUP = "kueue.x-k8s.io"
SERVICE = "kueue-webhook-service.kueue-system.svc"
NOT_HERE = ("Deployment", "APIService")


def start(cluster: "Cluster", configuration: Mapping[str, Any]) -> None:
    """Installs Kueue and starts its manager; webhooks and controllers work when this returns."""
    folder = cluster.folder / "kueue"
    authority = Authority(folder, "kueue-ca", RSA)
    serving = authority.server("tls", f"DNS:{SERVICE}", f"IP:{cluster.address}")
    file = cluster.folder / "kueue.json"
    file.write_text(json.dumps({**manager_configuration(cluster.address, str(folder)), **configuration}))
    source = module_folder("kueue", "sigs.k8s.io/kueue") / "config/default"
    found = yaml.load_all(cluster.kubectl("kustomize", str(source)), Loader=yaml.CSafeLoader)
    how = {"url": f"https://{cluster.address}:9443", "caBundle": authority.encoded}
    manifests = [with_webhooks(manifest, **how) for manifest in found if manifest["kind"] not in NOT_HERE]
    cluster.apply(*manifests, certificate_secret(authority.pair, serving))
    kubeconfig = cluster.user_kubeconfig("system:kueue", ["system:masters"])
    cluster.start("kueue", binary("kueue"), "--config", file, "--kubeconfig", kubeconfig)
    wait(cluster)


def wait(cluster: "Cluster") -> None:
    """Returns when the manager is ready."""
    probe = f"http://{cluster.address}:8081/readyz"
    cluster.wait_for("kueue", lambda: urllib.request.urlopen(probe, timeout=5).status == 200)


def manager_configuration(address: str, certificates: str) -> dict[str, Any]:
    """One manager on `address` with the certificate in the folder `certificates`, for bare Workloads and Jobs."""
    return {
        "apiVersion": "config.kueue.x-k8s.io/v1beta2",
        "kind": "Configuration",
        "namespace": "kueue-system",
        "health": {"healthProbeBindAddress": f"{address}:8081"},
        "metrics": {"bindAddress": "0"},
        "webhook": {"host": address, "port": 9443, "certDir": certificates},
        "leaderElection": {"leaderElect": False},
        "internalCertManagement": {"enable": True},
        "featureGates": {"VisibilityOnDemand": False},
        "integrations": {"frameworks": ["batch/job"]},
    }


def certificate_secret(authority: KeyPair, serving: KeyPair) -> dict[str, Any]:
    """Where Kueue keeps its certificates: it takes these as its own, and need not make and spread others (9 s)."""
    command = ["openssl", "rsa", "-traditional", "-in", str(authority.key)]
    key = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "kueue-webhook-server-cert", "namespace": "kueue-system"},
        "stringData": {
            "ca.crt": authority.certificate.read_text(),
            "ca.key": key,
            "tls.crt": serving.certificate.read_text(),
            "tls.key": serving.key.read_text(),
        },
    }


def with_webhooks(manifest: dict[str, Any], url: str, caBundle: str) -> dict[str, Any]:
    """The manifest with every call to Kueue's Service made a call to `url`."""
    if manifest["kind"] in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"):
        own = [hook for hook in manifest["webhooks"] if all(GROUP in rule["apiGroups"] for rule in hook["rules"])]
        clients = [hook["clientConfig"] for hook in own]
        manifest = {**manifest, "webhooks": own}
    elif manifest["kind"] == "CustomResourceDefinition" and "conversion" in manifest["spec"]:
        clients = [manifest["spec"]["conversion"]["webhook"]["clientConfig"]]
    else:
        return manifest
    for client in clients:
        client.update(url=url + client.pop("service")["path"], caBundle=caBundle)
    return manifest
