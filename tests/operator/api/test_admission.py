"""The API server refuses what it should, with the field's path, while no operator runs; the models agree with it."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.cluster.cluster import Cluster, KubectlError
from unisd.config.base import ConfigError
from unisd.config.load import load_cluster_run

CORPUS = Path(__file__).parent / "corpus"
EXAMPLES = Path(__file__).parents[3] / "examples"
INVALID = sorted((CORPUS / "invalid").glob("*.yaml"))
VALID = sorted((CORPUS / "valid").glob("*.yaml"))
UPDATES = sorted((CORPUS / "updates").glob("*.yaml"))
MANIFESTS = [
    path for path in sorted(EXAMPLES.rglob("*.yaml")) if "kind: SelfDistillRun" in path.read_text(encoding="utf-8")
]


class Expected(NamedTuple):
    field: str | None
    says: str
    local: str | None


def expected(path: Path) -> Expected:
    lines = dict(re.findall(r"^# (field|says|local): ?(.*)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE))
    return Expected(lines.get("field"), lines.get("says", ""), lines.get("local", lines.get("field")))


def documents(path: Path) -> list[Any]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def by_name(path: Path) -> str:
    return path.stem


def test_the_corpus_is_large_enough():
    assert len(INVALID) >= 40
    assert len(VALID) >= 20
    assert len(MANIFESTS) >= 3


@pytest.mark.parametrize("path", INVALID, ids=by_name)
def test_the_api_server_refuses(path, definition: Cluster):
    field, says, _ = expected(path)
    with pytest.raises(KubectlError) as refusal:
        definition.kubectl("create", "--dry-run=server", "-f", str(path))
    told = str(refusal.value)
    assert re.search(rf"(^|[\s\"]){re.escape(field)}(:|\[|\"|$)", told), told
    assert says in told


@pytest.mark.parametrize("path", INVALID, ids=by_name)
def test_the_models_refuse(path):
    with pytest.raises(ConfigError) as refusal:
        load_cluster_run(path)
    assert expected(path).local in [problem.path for problem in refusal.value.problems], str(refusal.value)


@pytest.mark.parametrize("path", [*VALID, *MANIFESTS], ids=by_name)
def test_the_api_server_accepts(path, definition: Cluster):
    manifest = path.read_text(encoding="utf-8").replace("namespace: research, ", "")
    definition.kubectl("create", "--dry-run=server", "-f", "-", input=manifest)


@pytest.mark.parametrize("path", [*VALID, *MANIFESTS], ids=by_name)
def test_the_models_accept(path):
    load_cluster_run(path)


@pytest.mark.parametrize("path", UPDATES, ids=by_name)
def test_what_may_change(path, definition: Cluster, namespace):
    field, says, _ = expected(path)
    old, new = (yaml.safe_dump(document) for document in documents(path))
    definition.kubectl("create", "-n", namespace, "-f", "-", input=old)
    if field is None:
        definition.kubectl("replace", "-n", namespace, "-f", "-", input=new)
        return
    with pytest.raises(KubectlError) as refusal:
        definition.kubectl("replace", "-n", namespace, "-f", "-", input=new)
    assert f"{field}: " in str(refusal.value)
    assert says in str(refusal.value)
