"""The CustomResourceDefinition as plain data, made from the models of the specification and of the status.

`python -m unisd_operator.api.schema FOLDER…` writes it (`make generate`). Kubernetes wants a *structural* schema, which
`model_json_schema` alone is not: references are written out, nulls and closed objects go, numeric exclusive bounds
become v1's booleans, every list says how it merges. What OpenAPI cannot say is `rules`.

The specification has no defaults here, although the models have (docs/adr/0006): the stored object is what was given.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from unisd.config.run import MAX_RUN_NAME, DnsLabel, RunSpec
from unisd_operator.api.names import GROUP, KIND, PLURAL, VERSION
from unisd_operator.api.rules import RULES
from unisd_operator.api.status import Status

Json = dict[str, Any]

LIST_KEYS = {
    "spec.components[]": "name",
    "spec.evaluation.sources[]": "task",
    "status.components[]": "name",
    "status.stages[]": "name",
    "status.conditions[]": "type",
}
"""Lists whose items are told apart by a field; all others are replaced whole."""
SETS = frozenset({"spec.seeds[]", "spec.evaluation.tasks[]"})
"""Lists of values that must differ from each other."""
# As long as the operator has not seen a run, it must read as in progress: kstatus compares generations.
UNSEEN: Json = {"observedGeneration": -1, "phase": "Pending"}

COLUMNS = (
    ("Phase", "string", ".status.phase", 0),
    ("Components", "string", ".status.componentsEnded", 0),
    ("Progress", "integer", ".status.progressPercentage", 0),
    ("Reason", "string", ".status.reason", 0),
    ("Age", "date", ".metadata.creationTimestamp", 0),
    ("Best", "string", ".status.best", 1),
    ("Model", "string", ".spec.model..['path','name']", 1),  # at any depth: a claim has both, its path says more
    ("Task", "string", ".spec.task.name", 1),
)
# What JSON Schema says alike.
_KEPT = ("type", "enum", "pattern", "format", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems",
         "maxProperties", "required", "x-kubernetes-int-or-string")  # fmt: skip


def crd() -> Json:
    """The CustomResourceDefinition."""
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": resource_schema()},
        "subresources": {"status": {}},
        "additionalPrinterColumns": [
            {"name": name, "type": kind, "jsonPath": path, **({"priority": wide} if wide else {})}
            for name, kind, path, wide in COLUMNS
        ],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["sdr"],
                "categories": ["all"],
            },
            "versions": [version],
        },
    }


def resource_schema() -> Json:
    """Schema of the whole resource, rules included."""
    name = {"type": "string", "maxLength": MAX_RUN_NAME, "pattern": DnsLabel}
    schema: Json = {
        "type": "object",
        "description": "One self-distillation experiment: one model, one task, several components.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object", "properties": {"name": name}},
            "spec": structural(RunSpec, "spec"),
            "status": {**_without_enums(structural(Status, "status")), "default": UNSEEN},
        },
    }
    for rule in RULES:
        _at(schema, rule.path).setdefault("x-kubernetes-validations", []).append(rule.as_json())
    return schema


def structural(model: type[BaseModel], path: str) -> Json:
    """A model's structural schema; `path` says where it stands, e.g. `spec`."""
    schema = model.model_json_schema(by_alias=True)
    return _converted(schema, schema.get("$defs", {}), path)


def _converted(node: Json, definitions: Mapping[str, Json], path: str) -> Json:
    node = _resolved(node, definitions)
    found: Json = {name: node[name] for name in _KEPT if name in node}
    if "description" in node:
        found["description"] = " ".join(node["description"].split())
    if "const" in node:
        found |= {"type": "string", "enum": [node["const"]]}
    for exclusive, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if exclusive in node:
            found |= {bound: node[exclusive], exclusive: True}
    if "anyOf" in node:  # an integer or text; alternatives with null are gone by now
        found["anyOf"] = node["anyOf"]
    if "items" in node:
        found["items"] = _converted(node["items"], definitions, f"{path}[]")
        found |= _list_type(f"{path}[]")
    if "properties" in node:
        found["properties"] = {
            name: _converted(inner, definitions, f"{path}.{name}") for name, inner in node["properties"].items()
        }
    match node.get("additionalProperties"):
        case True:
            found["x-kubernetes-preserve-unknown-fields"] = True
        case dict() as inner:
            found["additionalProperties"] = _converted(inner, definitions, f"{path}{{}}")
    return found


def _resolved(node: Json, definitions: Mapping[str, Json]) -> Json:
    """The node without references and without null; a field's own description says more than its block's."""
    alternatives = [option for option in node.get("anyOf", ()) if option.get("type") != "null"]
    if len(alternatives) == 1:
        inner = _resolved(alternatives[0], definitions)
    elif "$ref" in node:
        inner = definitions[node["$ref"].rsplit("/", 1)[-1]]
    else:
        return node
    return {**inner, "description": node.get("description", inner.get("description", ""))}


def _list_type(path: str) -> Json:
    if path in LIST_KEYS:
        return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [LIST_KEYS[path]]}
    return {"x-kubernetes-list-type": "set" if path in SETS else "atomic"}


def _without_enums(node: Json) -> Json:
    """A newer operator may write a word that this definition does not know yet: the words are told, not enforced."""
    found = {name: value for name, value in node.items() if name not in ("enum", "properties", "items")}
    if "enum" in node:
        found["maxLength"] = 64
        found["description"] = f"{node.get('description', '')} One of {', '.join(node['enum'])}.".strip()
    if "properties" in node:
        found["properties"] = {name: _without_enums(inner) for name, inner in node["properties"].items()}
    if "items" in node:
        found["items"] = _without_enums(node["items"])
    return found


def _at(schema: Json, path: str) -> Json:
    """The part of the schema that a path names: `spec.components[].clip`; the empty path is the root."""
    for part in _parts(path):
        schema = schema["items"] if part == "[]" else schema["properties"][part]
    return schema


def _parts(path: str) -> Iterator[str]:
    for name in path.split(".") if path else ():
        yield name.removesuffix("[]")
        if name.endswith("[]"):
            yield "[]"


def main(folders: list[str]) -> None:
    """Writes the definition into every folder."""
    # Through JSON, so that equal blocks are written out and not aliased.
    text = yaml.safe_dump(json.loads(json.dumps(crd())), sort_keys=False, allow_unicode=True, width=120)
    for folder in folders:
        Path(folder).mkdir(parents=True, exist_ok=True)
        path = Path(folder) / f"{PLURAL}.{GROUP}.yaml"
        path.write_text(f"# Generated from the models by `make generate`.\n{text}", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
