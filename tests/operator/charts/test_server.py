"""What the charts render to is accepted by a real API server, its pods under Pod Security `restricted`."""

import json
from collections.abc import Iterator

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.waiting import eventually
from tests.operator.charts.rendering import COMBINATIONS, CRDS, OPERATOR, Values, one, render

WITHOUT_OPERATORS_OF_OTHERS = {
    name: {**values, "monitoring": {}} for name, values in COMBINATIONS.items() if name != "monitoring"
}


@pytest.mark.parametrize("values", WITHOUT_OPERATORS_OF_OTHERS.values(), ids=WITHOUT_OPERATORS_OF_OTHERS)
def test_every_object_is_accepted(cluster: Cluster, namespace: str, values: Values) -> None:
    objects = render(OPERATOR, {**values, "namespaces": [namespace] if values.get("namespaces") else []})
    for found in objects:
        found["metadata"] |= {"namespace": namespace} if "namespace" in found["metadata"] else {}
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})

    cluster.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", input=listed)


@pytest.mark.parametrize("values", WITHOUT_OPERATORS_OF_OTHERS.values(), ids=WITHOUT_OPERATORS_OF_OTHERS)
def test_applying_again_changes_nothing(cluster: Cluster, namespace: str, values: Values) -> None:
    """A field that the API server drops or fills in would look like drift to what keeps charts in Git."""
    objects = [found for found in render(OPERATOR, values) if "namespace" in found["metadata"]]
    for found in objects:
        found["metadata"] |= {"namespace": namespace}
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})

    def applied() -> dict[str, int]:
        """Generations of the objects that count their changes."""
        answer = json.loads(cluster.kubectl("apply", "-f", "-", "-o", "json", input=listed))
        return {found["kind"]: found["metadata"].get("generation", 1) for found in answer["items"]}

    assert applied() == applied()


@pytest.mark.parametrize("values", WITHOUT_OPERATORS_OF_OTHERS.values(), ids=WITHOUT_OPERATORS_OF_OTHERS)
def test_pods_are_admitted_as_restricted_and_have_a_read_only_root(
    cluster: Cluster, namespace: str, values: Values
) -> None:
    template = one(render(OPERATOR, values), "Deployment")["spec"]["template"]
    template["spec"].pop("priorityClassName", None)  # admitted in kube-system and by quota alone
    template["spec"]["serviceAccountName"] = "default"
    pod = {"apiVersion": "v1", "kind": "Pod", **template, "metadata": {"name": "operator", "namespace": namespace}}

    cluster.kubectl("create", "--dry-run=server", "-f", "-", input=json.dumps(pod))

    assert all(c["securityContext"]["readOnlyRootFilesystem"] for c in template["spec"]["containers"])


@pytest.fixture
def roles(cluster: Cluster) -> Iterator[None]:
    """The ClusterRoles of the resource; removed afterwards."""
    objects = [found for found in render(CRDS, {}) if found["kind"] == "ClusterRole"]
    cluster.apply(*objects)
    yield
    for found in objects:
        cluster.kubectl("delete", "clusterrole", found["metadata"]["name"])


def test_view_edit_and_admin_take_in_the_rights_on_runs(cluster: Cluster, namespace: str, roles: None) -> None:
    def may(user: str, verb: str) -> bool:
        asked = {"namespace": namespace, "verb": verb, "group": "unisd.dev", "resource": "selfdistillruns"}
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview"}
        review |= {"spec": {"user": user, "resourceAttributes": asked}}
        answer = cluster.kubectl("create", "-f", "-", "-o", "json", input=json.dumps(review))
        return bool(json.loads(answer)["status"]["allowed"])

    for role in ("view", "edit", "admin"):
        cluster.kubectl("create", "rolebinding", role, f"--clusterrole={role}", f"--user={role}er", "-n", namespace)

    for role in ("edit", "admin"):
        for verb in ("get", "watch", "create", "patch", "delete"):
            assert eventually(lambda role=role, verb=verb: may(f"{role}er", verb)), (role, verb)
    assert eventually(lambda: may("viewer", "list"))
    assert not may("viewer", "create")
