"""What the charts render to, for every combination of values; by the real Helm, without a cluster."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from unisd_operator.settings import Settings, read_settings

from tests.operator.charts.rendering import (
    CAUTIOUS,
    CHARTS,
    COMBINATIONS,
    CRDS,
    NAMESPACE,
    OPERATOR,
    Values,
    helm,
    one,
    render,
    template,
)

pytestmark = pytest.mark.cluster
ALL = pytest.mark.parametrize("values", COMBINATIONS.values(), ids=COMBINATIONS)


def _settings(objects: list[dict[str, Any]], folder: Path, name: str = "unisd-operator") -> Settings:
    path = folder / "settings.yaml"
    path.write_text(one(objects, "ConfigMap", name)["data"]["settings.yaml"], encoding="utf-8")
    return read_settings(path)


@pytest.mark.parametrize("chart", [OPERATOR, CRDS], ids=["operator", "crds"])
def test_lint_finds_nothing(chart: Path) -> None:
    ended = helm("lint", "--strict", chart, "--kube-version", "1.34.0")

    assert ended.returncode == 0, ended.stdout
    assert "WARNING" not in ended.stdout


@ALL
def test_rendering_twice_gives_the_same_bytes(values: Values) -> None:
    assert template(OPERATOR, values) == template(OPERATOR, values)
    assert template(CRDS, {}) == template(CRDS, {})


def test_nothing_is_left_to_chance_or_to_a_hook() -> None:
    for path in CHARTS.glob("*/templates/*"):
        text = path.read_text(encoding="utf-8")
        for word in (
            "rand",
            "genCA",
            "genSelfSigned",
            "genPrivateKey",
            "genSigned",
            "uuidv4",
            "now",
            "lookup",
            "helm.sh/hook",
        ):
            assert f"{word} " not in text, path
            assert f"{word}:" not in text, path


@ALL
def test_the_operator_reads_the_settings(values: Values, tmp_path: Path) -> None:
    name = values.get("fullnameOverride", "unisd-operator")

    settings = _settings(render(OPERATOR, values), tmp_path, name)

    assert settings.lease_name == name
    assert settings.lease_namespace == settings.network.operator_namespace == NAMESPACE
    assert settings.namespaces == list(values.get("namespaces", []))


def test_the_settings_of_the_defaults_are_the_operators_own(tmp_path: Path) -> None:
    changed = {"key_secret_name": "unisd-operator-key"}

    assert _settings(render(OPERATOR, {}), tmp_path) == Settings(**changed)


def test_what_a_cautious_team_asks_for_reaches_the_pods_of_runs(tmp_path: Path) -> None:
    settings = _settings(render(OPERATOR, CAUTIOUS), tmp_path)

    assert settings.images.trainer == "registry.example.com:5000/mirror/unisd/train:1.2.3"
    assert settings.images.rollout == "registry.example.com:5000/mirror/unisd/rollout:0.1.0"
    assert settings.images.pull_policy == "Always"
    assert settings.env["HF_ENDPOINT"] == "https://hub.example.com"
    assert settings.env["http_proxy"] == settings.env["HTTPS_PROXY"] == "http://proxy:3128"
    assert settings.env["no_proxy"] == "localhost,127.0.0.1,.svc,.cluster.local,10.0.0.0/8"
    assert settings.env["NO_PROXY"] == "*", "what settings.env says wins"
    assert settings.env["SSL_CERT_FILE"] == "/etc/unisd-ca/ca.crt"
    assert settings.pod.volumes is not None
    assert [volume["name"] for volume in settings.pod.volumes] == ["datasets", "unisd-ca"]
    assert settings.pod.volumes[1]["configMap"]["items"] == [{"key": "bundle.pem", "path": "ca.crt"}]
    assert settings.pod.volume_mounts is not None
    assert settings.pod.volume_mounts[1]["mountPath"] == "/etc/unisd-ca"
    assert settings.security.run_as_user == 1000650000
    assert settings.security.fs_group is None, "0 stands for none"
    assert settings.retry_seconds == 0.5


def test_what_a_cautious_team_asks_for_reaches_the_operator() -> None:
    objects = render(OPERATOR, CAUTIOUS)
    pod = one(objects, "Deployment")["spec"]["template"]
    container = pod["spec"]["containers"][0]

    assert container["image"] == "registry.example.com:5000/mirror/unisd/operator@sha256:" + "a" * 64
    assert pod["spec"]["imagePullSecrets"] == [{"name": "registry"}]
    assert pod["spec"]["priorityClassName"] == "system-cluster-critical"
    assert pod["spec"]["securityContext"]["runAsUser"] == 1000650000
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True, "restricted cannot be loosened"
    assert pod["metadata"]["labels"]["sidecar.istio.io/inject"] == "false"
    assert pod["metadata"]["annotations"]["example.com/scan"] == "false"
    assert container["env"] == [{"name": "TZ", "value": "UTC"}]
    for found in objects:
        assert found["metadata"]["labels"]["example.com/team"] == "ml", found["kind"]


@pytest.mark.parametrize(
    ("given", "used"),
    [
        (
            {"type": "Localhost", "localhostProfile": "tight.json"},
            {"type": "Localhost", "localhostProfile": "tight.json"},
        ),
        ({"type": "Unconfined"}, {"type": "RuntimeDefault"}),
        ({}, {"type": "RuntimeDefault"}),
    ],
)
def test_a_seccomp_profile_of_the_node_is_as_good_as_the_runtimes(given: Values, used: Values) -> None:
    objects = render(OPERATOR, {"podSecurityContext": {"seccompProfile": given}})

    assert one(objects, "Deployment")["spec"]["template"]["spec"]["securityContext"]["seccompProfile"] == used


@ALL
def test_no_object_is_taken_for_a_child_of_a_run(values: Values) -> None:
    for found in render(OPERATOR, values) + render(CRDS, {}):
        assert found["metadata"]["labels"]["app.kubernetes.io/managed-by"] != "unisd-operator"


@ALL
def test_rights_have_no_wildcard_and_read_no_secret_but_the_operators_own(values: Values) -> None:
    roles = [found for found in render(OPERATOR, values) if found["kind"] in ("Role", "ClusterRole")]
    reading = {"get", "list", "watch"}

    assert bool(roles) is values.get("rbac", {}).get("create", True)
    for role in roles:
        for rule in role["rules"]:
            assert "*" not in rule["apiGroups"] + rule["resources"] + rule["verbs"]
            if "secrets" in rule["resources"] and reading & set(rule["verbs"]):
                assert role["metadata"]["name"].endswith("-own")
                assert rule["verbs"] == ["get"]
                assert len(rule["resourceNames"]) == 1


def test_namespaced_mode_needs_nothing_cluster_wide() -> None:
    objects = render(OPERATOR, COMBINATIONS["namespaced"])

    assert not [found["kind"] for found in objects if found["kind"].startswith("Cluster")]
    roles = {found["metadata"]["namespace"]: found for found in objects if found["kind"] == "Role"}
    assert set(roles) == {"team-a", "team-b", NAMESPACE}
    cluster_wide = one(render(OPERATOR, {}), "ClusterRole")
    *rules, definitions = cluster_wide["rules"]
    assert roles["team-a"]["rules"] == rules
    assert definitions["resources"] == ["customresourcedefinitions"]


def test_a_change_of_settings_is_a_new_roll_out_and_nothing_else_is() -> None:
    def annotations(values: Values) -> Any:
        return one(render(OPERATOR, values), "Deployment")["spec"]["template"]["metadata"]["annotations"]

    assert annotations({}) == annotations({"replicas": 3})
    assert annotations({}) != annotations({"settings": {"workers": 3}})


def test_an_operator_that_takes_minutes_to_begin_is_not_killed() -> None:
    container = one(render(OPERATOR, {}), "Deployment")["spec"]["template"]["spec"]["containers"][0]

    assert container["startupProbe"]["httpGet"] == container["livenessProbe"]["httpGet"]
    assert container["startupProbe"]["periodSeconds"] * container["startupProbe"]["failureThreshold"] >= 300


def test_one_replica_has_no_budget_that_would_block_a_drain() -> None:
    kinds = {found["kind"] for found in render(OPERATOR, {"replicas": 1})}

    assert "PodDisruptionBudget" not in kinds


def test_the_crd_is_the_generated_one_and_kept() -> None:
    generated = yaml.safe_load((CHARTS.parent / "crds/selfdistillruns.unisd.dev.yaml").read_text(encoding="utf-8"))
    crd = one(render(CRDS, {}), "CustomResourceDefinition")

    assert crd["spec"] == generated["spec"]
    assert crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    unkept = one(render(CRDS, {"keep": False, "annotations": {"a": "b"}}), "CustomResourceDefinition")
    assert unkept["metadata"]["annotations"] == {**generated["metadata"].get("annotations", {}), "a": "b"}


REFUSED: list[tuple[Values, str]] = [
    ({"replica": 2}, "replica"),
    ({"replicas": "2"}, "replicas"),
    ({"replicas": -1}, "replicas"),
    ({"image": {"operater": {}}}, "operater"),
    ({"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
    ({"image": {"operator": {"digest": "abc"}}}, "digest"),
    ({"image": {"operator": {"tag": "a b"}}}, "tag"),
    ({"namespaces": "team-a"}, "namespaces"),
    ({"namespaces": ["Team_A"]}, "namespaces"),
    ({"namespaces": ["a", "a"]}, "namespaces"),
    ({"labels": {"a": 1}}, "labels"),
    ({"labels": {"a": "b c"}}, "labels"),
    ({"labels": {"app.kubernetes.io/name": "theirs"}}, "app.kubernetes.io~1name"),
    ({"podLabels": {"app.kubernetes.io/managed-by": "unisd-operator"}}, "managed-by"),
    ({"image": {"registry": "https://registry.example.com"}}, "registry"),
    ({"image": {"pullSecrets": ["registry"]}}, "pullSecrets"),
    ({"image": {"pullSecrets": [{"nme": "registry"}]}}, "nme"),
    ({"env": [{"value": "x"}]}, "env"),
    ({"env": [{"name": "A", "value": 1}]}, "env/0/value"),
    ({"huggingFaceEndpoint": "hub.example.com"}, "huggingFaceEndpoint"),
    ({"proxy": {"https": "proxy:3128"}}, "https"),
    ({"proxy": {"HTTP": "x"}}, "HTTP"),
    ({"caBundle": {"key": ""}}, "caBundle"),
    ({"keySecret": {"name": "Not A Name"}}, "keySecret"),
    ({"resources": {"request": {}}}, "request"),
    ({"settings": {"worker": 1}}, "worker"),
    ({"settings": {"workers": 0}}, "workers"),
    ({"settings": {"workers": 1.5}}, "workers"),
    ({"settings": {"resyncSeconds": 0}}, "resyncSeconds"),
    ({"settings": {"pod": {"nodeselector": {}}}}, "nodeselector"),
    ({"settings": {"pod": {"labels": {"unisd.dev/run": "x"}}}}, "unisd.dev~1run"),
    ({"settings": {"pod": {"labels": {"team": "language models"}}}}, "team"),
    ({"settings": {"pod": {"env": [{"value": "x"}]}}}, "env"),
    ({"settings": {"pod": {"env": [{"name": "A", "value": True}]}}}, "env/0/value"),
    ({"settings": {"pod": {"priorityClassName": "Not A Name"}}}, "priorityClassName"),
    ({"settings": {"storageClassName": "a_b"}}, "storageClassName"),
    ({"settings": {"env": {"A": 1}}}, "env"),
    ({"settings": {"network": {"enabled": "yes"}}}, "enabled"),
    ({"settings": {"security": {"runAsUser": -1}}}, "runAsUser"),
    ({"settings": {"leaseName": "x"}}, "leaseName"),
    ({"monitoring": {"serviceMonitor": {"enabled": 1}}}, "enabled"),
    ({"monitoring": {"podMonitor": {"interval": "soon"}}}, "interval"),
    ({"podDisruptionBudget": {"minAvailable": 1}}, "minAvailable"),
    ({"serviceAccount": {"create": False}}, "serviceAccount.name"),
    ({"keySecret": {"create": False}}, "keySecret.name"),
]


@pytest.mark.parametrize(("values", "named"), REFUSED, ids=[str(values) for values, _ in REFUSED])
def test_typos_and_wrong_types_are_refused_by_name(values: Values, named: str) -> None:
    ended = helm("template", "r", OPERATOR, "--kube-version", "1.34.0", values=values)

    assert ended.returncode != 0
    assert named in ended.stderr


def test_the_crd_chart_refuses_typos() -> None:
    for values, named in (({"kepp": True}, "kepp"), ({"labels": {"helm.sh/chart": "x"}}, "helm.sh~1chart")):
        ended = helm("template", "r", CRDS, "--kube-version", "1.34.0", values=values)

        assert named in ended.stderr
