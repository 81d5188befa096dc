"""How the resource behaves on a real API server that no operator has come to: what is stored, shown and dropped."""

import copy
import json
from typing import Any

import pytest
from unisd_operator.api import schema
from unisd_operator.api.status import Status

from tests.cluster.checks import kstatus
from tests.cluster.cluster import Cluster, KubectlError

RUN: dict[str, Any] = {
    "apiVersion": "unisd.dev/v1alpha1",
    "kind": "SelfDistillRun",
    "metadata": {"name": "fresh"},
    "spec": {
        "model": {"name": "Qwen/Qwen2.5-7B-Instruct"},
        "task": {"name": "scienceqa"},
        "components": [{"name": "star", "preset": "unisd_star", "ema": {}}],
    },
}


@pytest.fixture
def fresh(definition: Cluster, namespace) -> Any:
    definition.kubectl("create", "-n", namespace, "-f", "-", input=json.dumps(RUN))
    return definition.json("get", "sdr", "fresh", "-n", namespace)


def test_a_fresh_run_is_in_progress(fresh):
    assert fresh["status"] == schema.UNSEEN
    assert kstatus([fresh])[0]["status"] == "InProgress"


def test_without_its_default_a_fresh_run_would_read_as_done(fresh):
    unseen = copy.deepcopy(fresh)
    del unseen["status"]
    assert kstatus([unseen])[0]["status"] == "Current"


def test_the_specification_is_stored_as_it_was_given(fresh):
    assert fresh["spec"] == RUN["spec"]


def test_a_status_that_a_user_sends_is_dropped(definition: Cluster, namespace):
    run = {**RUN, "status": {"phase": "Succeeded", "observedGeneration": 1}}
    definition.kubectl("create", "-n", namespace, "-f", "-", input=json.dumps(run))
    assert definition.json("get", "sdr", "fresh", "-n", namespace)["status"] == schema.UNSEEN


def test_writing_the_status_leaves_generation_and_specification_alone(definition: Cluster, namespace, fresh):
    patch = {"status": {"observedGeneration": 1, "phase": "Running"}, "spec": {"suspend": True}}
    _patch_status(definition, namespace, patch)
    after = definition.json("get", "sdr", "fresh", "-n", namespace)
    assert (after["metadata"]["generation"], after["spec"]) == (1, RUN["spec"])
    assert after["status"] == {"observedGeneration": 1, "phase": "Running"}
    definition.kubectl("patch", "sdr", "fresh", "-n", namespace, "--type=merge", "-p", '{"spec": {"suspend": true}}')
    after = definition.json("get", "sdr", "fresh", "-n", namespace)
    assert (after["metadata"]["generation"], after["status"]["phase"]) == (2, "Running")


def test_the_operator_owns_the_status_alone(definition: Cluster, namespace, fresh):
    _patch_status(definition, namespace, {"status": {"phase": "Running"}}, "--field-manager=unisd-operator")
    run = definition.json("get", "sdr", "fresh", "-n", namespace, "--show-managed-fields")
    (own,) = [entry for entry in run["metadata"]["managedFields"] if entry["manager"] == "unisd-operator"]
    assert own["subresource"] == "status"
    assert list(own["fieldsV1"]) == ["f:status"]


def test_rules_fit_their_budget_for_the_largest_run(definition: Cluster, namespace):
    """CEL has a budget at run time, too: the largest specification is judged within it, and its changes."""
    run = copy.deepcopy(RUN)
    pod = {
        "affinity": {"nodeAffinity": {f"k{n}": ["x" * 50] * 20 for n in range(20)}},
        "env": [{"name": f"E{n}", "value": "x" * 400} for n in range(64)],
        "labels": {f"example.com/label-{n}": "x" * 63 for n in range(64)},
        "annotations": {f"example.com/note-{n}": "x" * 400 for n in range(64)},
    }
    blocks = ("divergence", "agreement", "ema", "contrastive", "features", "training")
    components = [{"name": f"c{n}", **{block: {} for block in blocks}, "clip": {"value": 1.0}} for n in range(32)]
    run["spec"] |= {"components": components, "seeds": [2147483646, 2147483647]}
    run["spec"] |= {block: {"pod": pod} for block in ("preparation", "rollout", "trainer", "evaluation")}
    definition.kubectl("create", "-n", namespace, "-f", "-", input=json.dumps(run))
    run["spec"]["suspend"] = True
    definition.kubectl("replace", "-n", namespace, "-f", "-", input=json.dumps(run))
    run["spec"]["trainer"] = {}
    with pytest.raises(KubectlError, match=r"spec.trainer: .*trainer is immutable"):
        definition.kubectl("replace", "-n", namespace, "-f", "-", input=json.dumps(run))


def test_plain_json_loses_unknown_fields_silently_unless_asked(definition: Cluster, namespace):
    """Documented: docs/operator/reference.md names such clients."""
    run = copy.deepcopy(RUN)
    run["spec"]["tusk"] = {}
    run["spec"]["components"][0]["ema"] = {"decai": 0.5}
    path = f"/apis/unisd.dev/v1alpha1/namespaces/{namespace}/selfdistillruns"
    with pytest.raises(
        KubectlError, match=r'unknown field "spec.components\[0\].ema.decai", unknown field "spec.tusk"'
    ):
        definition.kubectl("create", "--raw", f"{path}?fieldValidation=Strict", "-f", "-", input=json.dumps(run))
    stored = json.loads(definition.kubectl("create", "--raw", path, "-f", "-", input=json.dumps(run)))
    assert stored["spec"] == RUN["spec"]


def test_server_side_apply_refuses_unknown_fields(definition: Cluster, namespace):
    run = copy.deepcopy(RUN)
    run["spec"]["tusk"] = {}
    with pytest.raises(KubectlError, match=r"spec.tusk: field not declared in schema"):
        definition.kubectl("apply", "--server-side", "-n", namespace, "-f", "-", input=json.dumps(run))


def test_the_whole_status_fits_its_schema(definition: Cluster, namespace, fresh):
    """Every field of the models is known to the definition: nothing that the operator writes is dropped."""
    status = _filled(schema.structural(Status, "status"))
    _patch_status(definition, namespace, {"status": status})
    assert definition.json("get", "sdr", "fresh", "-n", namespace)["status"] == status


@pytest.mark.parametrize(
    ("wide", "heads", "cells"),
    [
        (False, "NAME PHASE COMPONENTS PROGRESS REASON AGE", ["fresh", "Running", "3/4", "42", "Training"]),
        (True, "NAME PHASE COMPONENTS PROGRESS REASON AGE BEST MODEL TASK",
         ["star 0.81", "Qwen/Qwen2.5-7B-Instruct", "scienceqa"]),
    ],
)  # fmt: skip
def test_columns(definition: Cluster, namespace, fresh, wide, heads, cells):
    status = {"phase": "Running", "componentsEnded": "3/4", "progressPercentage": 42, "reason": "Training"}
    _patch_status(definition, namespace, {"status": {**status, "best": "star 0.81"}})
    table = definition.kubectl("get", "sdr", "-n", namespace, *(["-o", "wide"] if wide else []))
    head, line = table.strip().splitlines()
    assert head.split() == heads.split()
    assert all(cell in line for cell in cells)


@pytest.mark.parametrize(
    ("model", "shown"),
    [
        ({"name": "Qwen/Qwen2.5-7B-Instruct", "revision": "main"}, "Qwen/Qwen2.5-7B-Instruct"),
        ({"path": "models/llama-3.1-8b", "lora": {"rank": 8}}, "models/llama-3.1-8b"),
        ({"claim": {"name": "models", "path": "gemma-3-4b-it"}}, "gemma-3-4b-it"),
    ],
)
def test_the_column_of_the_model(definition: Cluster, namespace, model, shown):
    run = {**RUN, "spec": {**RUN["spec"], "model": model}}
    definition.kubectl("create", "-n", namespace, "-f", "-", input=json.dumps(run))
    assert definition.kubectl("get", "sdr", "-n", namespace, "-o", "wide").split()[-2] == shown


def test_short_name_and_category(definition: Cluster, namespace, fresh):
    assert "selfdistillrun.unisd.dev/fresh" in definition.kubectl("get", "all", "-n", namespace)


def test_explain_reads_like_documentation(definition: Cluster):
    told = definition.kubectl("explain", "sdr.spec.components.agreement.gamma")
    assert "Strength γ: token weight 1/(1+γ·d)" in told
    assert "Default by level and statistic: token 1 (variance)" in " ".join(told.split())
    told = definition.kubectl("explain", "sdr.status.components.failure")
    assert "docs/operator/troubleshooting.md" in told


def _patch_status(cluster: Cluster, namespace: str, patch: Any, *options: str) -> None:
    arguments = ("fresh", "-n", namespace, "--subresource=status", "--type=merge", "-p", json.dumps(patch), *options)
    cluster.kubectl("patch", "sdr", *arguments)


def _filled(node: dict[str, Any]) -> Any:
    """A value with every field of a schema."""
    if "enum" in node:
        return node["enum"][0]
    match node["type"]:
        case "object" if "properties" in node:
            return {name: _filled(inner) for name, inner in node["properties"].items()}
        case "object":
            return {"key": _filled(node["additionalProperties"])}
        case "array":
            return [_filled(node["items"])]
        case "boolean":
            return True
        case "integer" | "number":
            return 7
        case _:
            return "2026-01-01T00:00:00Z" if node.get("format") == "date-time" else "x"
