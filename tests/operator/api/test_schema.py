"""The definition is structural, small, bounded and described; what is generated from it is current."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from unisd_operator.api import reference, rules, schema
from unisd_operator.api.status import Status

from unisd.config.reference import _blocks
from unisd.config.run import RunSpec

ROOT = Path(__file__).parents[3]
SCHEMA = schema.resource_schema()
SPEC = SCHEMA["properties"]["spec"]


def nodes(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema below one, with its path."""
    yield path, node
    for name, inner in node.get("properties", {}).items():
        yield from nodes(inner, f"{path}.{name}")
    if "items" in node:
        yield from nodes(node["items"], f"{path}[]")
    if isinstance(node.get("additionalProperties"), dict):
        yield from nodes(node["additionalProperties"], f"{path}{{}}")


def test_compact_json_fits_the_annotation_of_kubectl_apply():
    compact = json.dumps(schema.crd(), separators=(",", ":"))
    assert len(compact.encode()) < 100_000


def test_nothing_that_a_structural_schema_forbids():
    text = json.dumps(SCHEMA)
    for word in ("$ref", "$defs", '"null"', "null", '"title"', '"const"', "propertyNames"):
        assert word not in text
    for path, node in nodes(SCHEMA):
        assert node.get("additionalProperties") not in (True, False), path
        assert "type" in node or node.get("x-kubernetes-int-or-string"), path
        for exclusive in ("exclusiveMinimum", "exclusiveMaximum"):
            assert node.get(exclusive) in (None, True), path


def test_the_specification_is_stored_as_it_was_given():
    assert not [path for path, node in nodes(SPEC) if "default" in node]


def test_every_list_says_how_it_merges():
    for path, node in nodes(SCHEMA):
        if node.get("type") == "array":
            assert node["x-kubernetes-list-type"] in ("map", "set", "atomic"), path
            for key in node.get("x-kubernetes-list-map-keys", ()):
                assert key in node["items"]["required"], path


def test_everything_has_a_maximum():
    for path, node in nodes(SCHEMA):
        if not path.startswith((".spec", ".status")) or "enum" in node:
            continue
        if node.get("type") == "string" and "format" not in node:
            assert "maxLength" in node, path
        if node.get("type") == "array":
            assert "maxItems" in node, path
        if "additionalProperties" in node:
            assert "maxProperties" in node, path
        if node.get("type") == "integer" and path.startswith(".spec"):
            assert "maximum" in node, path


def test_every_field_is_described():
    for path, node in nodes(SCHEMA):
        if path.startswith((".spec", ".status")) and not path.endswith(("[]", "{}")) and "[].name" not in path:
            assert node.get("description"), path


def test_every_default_is_told():
    """In words, since the schema has none: Default, Off by default, or one of several that exclude each other."""
    for _, model in _blocks("spec", RunSpec):
        optional = {
            name: field.description or "" for name, field in model.model_fields.items() if not field.is_required()
        }
        silent = [name for name, description in optional.items() if "default" not in description.lower()]
        assert set(silent) <= EXCLUSIVE.get(model.__name__, set()), f"{model.__name__}: {silent}"


EXCLUSIVE = {
    "Model": {"name", "path", "claim"},
    "Source": {"hub", "path", "config_map"},
    "EvaluationSource": {"hub", "path"},
    "Clip": {"value", "quantile"},
    "Task": {"pattern"},
    "SuccessPolicy": {"count"},
}
"""Fields that have no default: exactly one is given, or another field asks for them."""


def test_words_of_the_status_are_told_and_not_enforced():
    """A newer operator may write a reason that this definition does not know."""
    status = SCHEMA["properties"]["status"]
    assert not [path for path, node in nodes(status) if "enum" in node]
    assert (
        "OOMKilled"
        in status["properties"]["components"]["items"]["properties"]["failure"]["properties"]["reason"]["description"]
    )


def test_the_unseen_status_is_a_status():
    assert Status.model_validate(schema.UNSEEN) == Status()


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: f"{rule.path}{rule.field}: {rule.message[:30]}")
def test_rules_name_places_that_exist(rule):
    place = schema._at(SCHEMA, rule.path)
    assert rule.as_json() in place["x-kubernetes-validations"]
    for name in re.findall(r"[.](\w+)", rule.field):
        place = place["properties"][name]


def test_what_is_not_mutable_is_immutable():
    fields = {field.alias for field in RunSpec.model_fields.values()}
    assert fields >= rules.MUTABLE
    frozen = {rule.field[1:] for rule in rules.RULES if "is immutable" in rule.message}
    assert frozen == fields - rules.MUTABLE


@pytest.mark.parametrize("folder", ["crds", "charts/unisd-crds/files"])
def test_the_written_definition_is_current(folder):
    text = (ROOT / folder / "selfdistillruns.unisd.dev.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text) == schema.crd()


def test_the_reference_is_current():
    assert (ROOT / "docs/operator/reference.md").read_text(encoding="utf-8") == reference.page()
