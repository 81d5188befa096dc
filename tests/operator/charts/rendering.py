"""Renders the charts by the real Helm, and the combinations of values that all tests of templates go through."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.binaries import KUBERNETES, binary

CHARTS = Path(__file__).parents[3] / "charts"
OPERATOR, CRDS = CHARTS / "unisd-operator", CHARTS / "unisd-crds"
NAMESPACE = "unisd-system"
Values = Mapping[str, Any]

MONITORING = {
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "podMonitor": {"enabled": True, "interval": "15s"},
    "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
    "dashboard": {"enabled": True, "annotations": {"grafana_folder": "ML"}},
}
CAUTIOUS: Values = {
    "labels": {"example.com/team": "ml"},
    "annotations": {"example.com/owner": "ml"},
    "image": {
        "registry": "registry.example.com:5000/mirror/unisd",
        "pullPolicy": "Always",
        "pullSecrets": [{"name": "registry"}],
        "operator": {"digest": "sha256:" + "a" * 64},
        "trainer": {"name": "train", "tag": "1.2.3"},
    },
    "resources": {"requests": {"cpu": "200m"}, "limits": {"cpu": 1}},
    "nodeSelector": {"example.com/pool": "system"},
    "tolerations": [{"key": "system", "operator": "Exists"}],
    "priorityClassName": "system-cluster-critical",
    "podLabels": {"sidecar.istio.io/inject": "false"},
    "podAnnotations": {"example.com/scan": "false"},
    "podSecurityContext": {"runAsUser": 1000650000, "runAsNonRoot": False},
    "env": [{"name": "TZ", "value": "UTC"}],
    "serviceAccount": {"annotations": {"example.com/role": "none"}},
    "proxy": {"http": "http://proxy:3128", "https": "http://proxy:3128", "exceptions": "10.0.0.0/8"},
    "caBundle": {"configMap": "company-ca", "key": "bundle.pem"},
    "huggingFaceEndpoint": "https://hub.example.com",
    "networkPolicy": {"extraEgress": [{"to": [{"ipBlock": {"cidr": "10.0.0.1/32"}}]}]},
    "settings": {
        "env": {"HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "*"},
        "pod": {
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
            "imagePullSecrets": [{"name": "registry"}],
            "priorityClassName": "research",
            "volumes": [{"name": "datasets", "persistentVolumeClaim": {"claimName": "datasets"}}],
            "volumeMounts": [{"name": "datasets", "mountPath": "/datasets"}],
        },
        "security": {"runAsUser": 1000650000, "fsGroup": 0},
        "storageClassName": "fast",
        "network": {"metricsFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}]},
        "podDisruptionBudgets": {"enabled": True},
        "forceDeleteLostPods": True,
        "retrySeconds": 0.5,
    },
}
COMBINATIONS: dict[str, Values] = {
    "defaults": {},
    "namespaced": {"namespaces": ["team-a", "team-b"]},
    "monitoring": {"monitoring": MONITORING},
    "cautious": CAUTIOUS,
    "cautious and namespaced": {**CAUTIOUS, "namespaces": ["team-a"], "monitoring": MONITORING},
    "the least": {
        "replicas": 1,
        "rbac": {"create": False},
        "serviceAccount": {"create": False, "name": "theirs"},
        "keySecret": {"create": False, "name": "their-key"},
        "networkPolicy": {"enabled": False},
        "podDisruptionBudget": {"enabled": False},
        "settings": {"network": {"enabled": False}},
    },
    "names": {"fullnameOverride": "distiller", "nameOverride": "uo"},
    "own placement": {
        "affinity": {"nodeAffinity": {}},
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule"}
        ],
    },
    "as a subchart": {"global": {"anything": 1}},
}


def helm(*arguments: str | Path, values: Values | None = None) -> subprocess.CompletedProcess[str]:
    """Runs Helm without a cluster; `values` come on stdin, as a file would."""
    given = ["--values", "-"] if values is not None else []
    return subprocess.run(
        [binary("helm"), *arguments, *given], input=json.dumps(values), capture_output=True, text=True, check=False
    )


def template(chart: Path, values: Values, release: str = "unisd-operator") -> str:
    """What the chart renders to; fails with Helm's own words."""
    options = ("--namespace", NAMESPACE, "--kube-version", KUBERNETES)
    ended = helm("template", release, chart, *options, values=values)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def render(chart: Path, values: Values, release: str = "unisd-operator") -> list[dict[str, Any]]:
    """The same, parsed."""
    return [found for found in yaml.safe_load_all(template(chart, values, release)) if found is not None]


def one(objects: list[dict[str, Any]], kind: str, name: str | None = None) -> dict[str, Any]:
    """The only object of a kind (and name)."""
    (found,) = [o for o in objects if o["kind"] == kind and name in (None, o["metadata"]["name"])]
    return found
