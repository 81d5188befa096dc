"""Kueue beside a test cluster, not in it: its manifests are applied, its manager runs as a process. `Cluster.start_kueue`.

Its webhooks are called by URL instead of through a Service, since no pod network leads from the API server to it; of
them those for Kueue's own kinds are kept: the others would refuse every Job and Pod while Kueue is down.
"""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml

from tests.cluster.binaries import binary, module_folder
from tests.cluster.waiting import eventually

if TYPE_CHECKING:
    from tests.cluster.cluster import Cluster

GROUP = "kueue.x-k8s.io"
NOT_HERE = ("Deployment", "APIService")


def start(cluster: "Cluster", configuration: Mapping[str, Any]) -> None:
    """Installs Kueue and starts its manager; webhooks and controllers work when this returns."""
    serving = cluster.authority.server("tls", f"IP:{cluster.address}")
    settings = {**manager_configuration(cluster.address, str(serving.certificate.parent)), **configuration}
    file = cluster.folder / "kueue.json"
    file.write_text(json.dumps(settings))
    source = module_folder("kueue", "sigs.k8s.io/kueue") / "config/default"
    found = yaml.load_all(cluster.kubectl("kustomize", str(source)), Loader=yaml.CSafeLoader)
    how = {"url": f"https://{cluster.address}:9443", "caBundle": cluster.authority.encoded}
    cluster.apply(*(with_webhooks(manifest, **how) for manifest in found if manifest["kind"] not in NOT_HERE))
    kubeconfig = cluster.user_kubeconfig("system:kueue", ["system:masters"])
    process = cluster.start("kueue", binary("kueue"), "--config", file, "--kubeconfig", kubeconfig)

    def ready() -> bool:
        assert process.alive(), process.log()[-4000:]
        with urllib.request.urlopen(f"http://{cluster.address}:8081/readyz", timeout=5) as answer:
            return bool(answer.status == 200)

    eventually(ready, within=60)


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
        "internalCertManagement": {"enable": False},
        "featureGates": {"VisibilityOnDemand": False},
        "integrations": {"frameworks": ["batch/job"]},
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
