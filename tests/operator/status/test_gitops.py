"""What kstatus, Argo CD and Flux make of a run in every state: their own code on statuses that were derived here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from unisd_operator.api.resource import read_resource

from tests.cluster.checks import argo_lua, flux_health, kstatus
from tests.operator.status.lab import SCORES, Lab, manifest, new

pytestmark = pytest.mark.cluster  # needs the programs, though no control plane

GITOPS = Path(__file__).parents[3] / "gitops"
ARGO = GITOPS / "argocd"


def fresh() -> Lab:
    return new()


def queued() -> Lab:
    lab = new(queueName="gpus")
    lab.observed = replace(lab.observed, kueue=True)
    return lab.prepared()


def suspended() -> Lab:
    lab = new().training()
    lab.edit(suspend=True)
    lab.look(1)
    return lab


def edited() -> Lab:
    lab = suspended()
    lab.edit(suspend=False)
    return lab


def succeeded() -> Lab:
    lab = new().evaluating()
    lab.end("evaluate", "c-1", SCORES)
    lab.look(1)
    lab.job("report", succeeded=True)
    lab.look(1)
    return lab


def failing() -> Lab:
    lab = new().training()
    lab.pod("train", "c-1", phase="Failed", container={"exit_code": 1})
    lab.look(1)
    return lab


def failed() -> Lab:
    lab = new().training()
    lab.pod("train", "c-1", phase="Failed", container={"exit_code": 65})
    lab.look(1)
    return lab


def invalid() -> Lab:
    lab = Lab(read_resource(manifest({"seeds": [1, 1]})))
    lab.look()
    return lab


def foreign_claim() -> Lab:
    lab = new()
    lab.observed = replace(lab.observed, foreign_claim=True)
    lab.look()
    return lab


def partly_refused() -> Lab:
    lab = new(components=[{"name": "a", "preset": "ema"}, {"name": "b", "preset": "ema"}], parallelism=2)
    lab.prepared()
    lab.refuse("a-1", 'Job.batch "a" is invalid')
    lab.look(1)
    return lab


@dataclass(frozen=True)
class Row:
    """One state, and what each tool is to say of it."""

    state: Callable[[], Lab]
    kstatus: str
    argo: str
    flux: str


TABLE = [
    Row(fresh, "InProgress", "Progressing", "InProgress"),
    Row(lambda: new().prepared(), "InProgress", "Progressing", "InProgress"),
    Row(queued, "InProgress", "Progressing", "InProgress"),
    Row(lambda: new().training(), "InProgress", "Progressing", "InProgress"),
    Row(lambda: new().evaluating(), "InProgress", "Progressing", "InProgress"),
    Row(failing, "InProgress", "Progressing", "InProgress"),
    Row(partly_refused, "InProgress", "Progressing", "InProgress"),
    # kstatus has no word for it: it waits for Ready.
    Row(suspended, "InProgress", "Suspended", "Current"),
    Row(edited, "InProgress", "Progressing", "InProgress"),
    Row(succeeded, "Current", "Healthy", "Current"),
    Row(failed, "Failed", "Degraded", "Failed"),
    Row(invalid, "Failed", "Degraded", "Failed"),
    Row(foreign_claim, "Failed", "Degraded", "Failed"),
]
NAMES = [
    "new",
    "starting",
    "queued",
    "training",
    "evaluating",
    "between attempts",
    "a component refused",
    "suspended",
    "resumed and not yet seen",
    "succeeded",
    "failed",
    "invalid",
    "foreign claim",
]


def as_object(lab: Lab) -> dict[str, Any]:
    """The run as the API server would send it; its schema gives a new one observedGeneration -1."""
    body = manifest({})
    body["metadata"]["generation"] = lab.run.generation
    new_status = {"observedGeneration": -1}
    known = lab.status.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {**body, "status": known if lab.status.conditions else new_status}


@pytest.mark.parametrize("row", TABLE, ids=NAMES)
def test_the_truth_table(row: Row) -> None:
    body = as_object(row.state())
    assert kstatus([body])[0]["status"] == row.kstatus
    assert argo_lua(ARGO / "health.lua", [body])[0]["status"] == row.argo
    assert flux_health([body], **flux_expressions())[0]["status"] == row.flux


def test_a_reader_is_told_why() -> None:
    body = as_object(failed())
    for message in (kstatus([body])[0]["message"], argo_lua(ARGO / "health.lua", [body])[0]["message"]):
        assert "container main of pod train-c-1-1-0 ended with code 65" in message


def flux_expressions() -> dict[str, str]:
    checks = load(GITOPS / "flux/kustomization.yaml")["spec"]["healthCheckExprs"][0]
    return {"current": checks["current"], "failed": checks["failed"], "in_progress": checks["inProgress"]}


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


HEALTH = load(ARGO / "health_test.yaml")["tests"]
ACTIONS = load(ARGO / "actions/action_test.yaml")


@pytest.mark.parametrize("case", HEALTH, ids=[case["inputPath"] for case in HEALTH])
def test_argo_cds_own_health_tests(case: Mapping[str, Any]) -> None:
    assert argo_lua(ARGO / "health.lua", [load(ARGO / case["inputPath"])]) == [case["healthStatus"]]


@pytest.mark.parametrize("case", ACTIONS["actionTests"], ids=["suspend", "resume"])
def test_argo_cds_own_action_tests(case: Mapping[str, Any]) -> None:
    folder = ARGO / "actions"
    done = argo_lua(folder / case["action"] / "action.lua", [load(folder / case["inputPath"])])
    assert done == [load(folder / case["expectedOutputPath"])]


@pytest.mark.parametrize("case", ACTIONS["discoveryTests"], ids=[c["inputPath"] for c in ACTIONS["discoveryTests"]])
def test_argo_cds_own_discovery_tests(case: Mapping[str, Any]) -> None:
    found = argo_lua(ARGO / "actions/discovery.lua", [load(ARGO / "actions" / case["inputPath"])])[0]
    assert [{"name": name, **found[name]} for name in sorted(found)] == case["result"]


def test_the_config_map_holds_the_scripts() -> None:
    data = load(ARGO / "argocd-cm.yaml")["data"]
    assert data["resource.customizations.health.unisd.dev_SelfDistillRun"] == (ARGO / "health.lua").read_text()
    actions = yaml.safe_load(data["resource.customizations.actions.unisd.dev_SelfDistillRun"])
    assert actions["discovery.lua"] == (ARGO / "actions/discovery.lua").read_text()
    scripts = {one["name"]: one["action.lua"] for one in actions["definitions"]}
    assert scripts == {name: (ARGO / f"actions/{name}/action.lua").read_text() for name in ("suspend", "resume")}
