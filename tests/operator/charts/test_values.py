"""The values of the charts: each described, none that nothing reads, defaults that stand once. Needs no Helm."""

import json
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from unisd_operator.settings import Settings

CHARTS = Path(__file__).parents[3] / "charts"
BOTH = pytest.mark.parametrize("chart", ["unisd-operator", "unisd-crds"])
# What templates make of other values.
DERIVED = {"version", "namespaces", "images", "port", "healthPort", "leaderElection", "leaseName", "leaseNamespace"}
DERIVED |= {"keySecretName", "keySecretCreate", "operatorNamespace"}


def _schema(chart: str) -> Any:
    return json.loads((CHARTS / chart / "values.schema.json").read_text(encoding="utf-8"))


def _values(chart: str) -> Any:
    return yaml.safe_load((CHARTS / chart / "values.yaml").read_text(encoding="utf-8"))


def _fields(schema: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for name, field in schema.get("properties", {}).items():
        yield f"{path}.{name}", field
        yield from _fields(field, f"{path}.{name}")


@BOTH
def test_every_value_is_described_and_typed(chart: str) -> None:
    for path, field in _fields(_schema(chart)):
        assert field["description"].endswith("."), path
        assert "type" in field, path


@BOTH
def test_every_block_refuses_unknown_fields(chart: str) -> None:
    for path, field in [("", _schema(chart)), *_fields(_schema(chart))]:
        assert "properties" not in field or field["additionalProperties"] is False, path


@BOTH
def test_the_schema_has_exactly_the_values_of_the_file(chart: str) -> None:
    def check(schema: Any, values: Any, path: str) -> None:
        if "properties" not in schema or values == {}:
            return
        assert set(schema["properties"]) - {"global"} - {"claims"} == set(values), path
        for name, value in values.items():
            check(schema["properties"][name], value, f"{path}.{name}")

    check(_schema(chart), _values(chart), "")


@BOTH
def test_the_tables_of_the_readmes_are_current(chart: str) -> None:
    with_table = runpy.run_path(str(CHARTS / "generate.py"))["with_table"]

    assert (CHARTS / chart / "README.md").read_text(encoding="utf-8") == with_table(CHARTS / chart)


def test_settings_are_those_of_the_operator_with_their_defaults() -> None:
    def check(model: type[BaseModel], values: Any, path: str) -> None:
        fields = {field.alias: field for field in model.model_fields.values()}
        assert set(fields) - DERIVED == set(values), path
        for name, value in values.items():
            default = fields[name].default
            if isinstance(default, BaseModel) and value != {}:
                check(type(default), value, f"{path}.{name}")
            elif isinstance(default, BaseModel):
                assert default == type(default)(), f"{path}.{name}"
            else:
                assert value == default or (value == 0 and default is None), f"{path}.{name}"

    check(Settings, _values("unisd-operator")["settings"], "settings")


def test_pod_block_is_that_of_the_operator() -> None:
    properties = _schema("unisd-operator")["properties"]["settings"]["properties"]["pod"]["properties"]
    pod = type(Settings().pod)

    assert set(properties) == {field.alias for field in pod.model_fields.values()}
