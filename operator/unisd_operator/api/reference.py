"""Writes docs/operator/reference.md from the schema: `python -m unisd_operator.api.reference docs/operator`."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unisd_operator.api.names import API_VERSION, KIND, PLURAL
from unisd_operator.api.rules import LEFT_TO_THE_OPERATOR, MUTABLE, RULES
from unisd_operator.api.schema import COLUMNS, Json, resource_schema

_HEAD = f"""# The resource {KIND}

Generated from the models by `make generate`. `kubectl explain sdr.spec --recursive` shows the same on a cluster.

`apiVersion: {API_VERSION}`, `kind: {KIND}`; `kubectl get {PLURAL}`, or `sdr` for short. Namespaced.
`metadata.name` is a DNS label of at most 40 characters: names of children are made from it.

## What is refused, and when

Types, bounds and the rules at the end of this page hold at admission, without the operator: the API server answers with
the field's path. `unisd validate --cluster -f FILE` says the same without a cluster; FILE may also be what
`kubectl get sdr NAME -o yaml` prints, as for `unisd render`.

**Unknown fields** are refused by clients that ask for strict validation: kubectl (1.25 and later) and every server-side
apply, so Flux, and Argo CD with `ServerSideApply=true`. A client that sends plain JSON without
`?fieldValidation=Strict` has them dropped by the API server: `curl`, most client libraries, kubectl with
`--validate=false` or `warn`. Such a client should send the parameter, or run `unisd validate` first.

**Whole numbers** are best written without a point: kubectl makes 3 of `3.0`, but the API server itself, asked by
another client, refuses it where a rule reads the field. Null is the same as nothing.

**Defaults** are not written into the specification: what is stored is what was given (docs/adr/0006). What they
resolved to is recorded in the status and in the ConfigMap of each attempt.

**After creation** only these fields may change: {", ".join(f"`{field}`" for field in sorted(MUTABLE))}. Every other one
is the experiment itself; another one is another run, which may use the same claim and finds there what is prepared. A
list of components may be reordered, and a number written otherwise (`0.9`, `9e-1`).

**Left to the operator**, since an API server cannot know it, and shown as condition `Stalled` with reason `InvalidSpec`
before any pod exists, or as the failure of the stage that finds it:

{chr(10).join(f"- {text}" for text in LEFT_TO_THE_OPERATOR)}

## Columns

```
$ kubectl get sdr -o wide
NAME             PHASE       COMPONENTS   PROGRESS   REASON      AGE   BEST         MODEL                      TASK
gemma-mbpp       Failed      1/4          61         OOMKilled   5h    sft 0.574    google/gemma-3-4b-it       mbpp
llama-own-rows   Succeeded   4/4          100                    2d    mine 0.671   models/llama-3.1-8b        custom
qwen-scienceqa   Running     3/12         42                     3h    star 0.812   Qwen/Qwen2.5-7B-Instruct   scienceqa
```

Those marked * are shown by `-o wide` alone. Progress is in percent, of all components together.

| column | field |
| --- | --- |
{chr(10).join(f"| {name}{'*' if wide else ''} | `{path[1:]}` |" for name, _, path, wide in COLUMNS)}
"""


def page() -> str:
    """The reference in Markdown: a table for each block, then the rules."""
    lines = [_HEAD]
    for path, node, same_as in _blocks(resource_schema()["properties"]):
        lines.append(f"\n## `{path}`\n\n{node.get('description', '')}\n")
        if same_as:
            lines.append(f"The same as [`{same_as}`](#{_anchor(same_as)}).")
            continue
        lines.append("| field | type | meaning |\n| --- | --- | --- |")
        required = node.get("required", ())
        lines += [_row(name, inner, name in required) for name, inner in node["properties"].items()]
    lines.append("\n## Rules\n\n| field | what is told when it does not hold |\n| --- | --- |")
    lines += [f"| `{rule.path}{rule.field}` | {rule.message} |" for rule in RULES]
    return "\n".join(lines) + "\n"


def _blocks(properties: Json) -> Iterator[tuple[str, Json, str | None]]:
    """Every block with its path, and with the path of an equal one before it."""
    seen: dict[str, str] = {}
    queue = [(name, properties[name]) for name in ("spec", "status")]
    while queue:
        path, node = queue.pop(0)
        content = json.dumps(_fields(node), sort_keys=True)
        yield path, node, seen.get(content)
        if content in seen:
            continue
        seen[content] = path
        for name, inner in node["properties"].items():
            block = inner.get("items", inner)
            if "properties" in block and "x-kubernetes-preserve-unknown-fields" not in block:
                queue.append((f"{path}.{name}{'[]' if block is not inner else ''}", block))


def _fields(node: Any) -> Any:
    """What two blocks have in common when only their rules and headings differ."""
    return {name: node[name] for name in ("properties", "required") if name in node}


def _anchor(path: str) -> str:
    return "".join(letter for letter in path.lower() if letter.isalnum() or letter in "-_")


def _row(name: str, node: Json, required: bool) -> str:
    text = node.get("description", "").replace("|", "\\|")
    return f"| `{name}`{' (required)' if required else ''} | {_type(node)} | {text} |"


def _type(node: Json) -> str:
    if "items" in node:
        least = f"{node['minItems']} to " if "minItems" in node else "at most "
        return f"list of {least}{node['maxItems']}: {_type(node['items'])}"
    if "additionalProperties" in node:
        return f"map of at most {node['maxProperties']}: {_type(node['additionalProperties'])}"
    if "x-kubernetes-preserve-unknown-fields" in node:
        return "as Kubernetes has it"
    return _scalar(node)


def _scalar(node: Json) -> str:
    words = {"object": "block", "boolean": "true or false", None: "quantity"}
    match node.get("type"):
        case "string" if "enum" in node:
            return " or ".join(f"`{word}`" for word in node["enum"])
        case "string":
            return "time" if node.get("format") == "date-time" else f"text, at most {node['maxLength']}"
        case "integer" | "number" as kind:
            return f"{kind}{_range(node)}"
        case kind:
            return words[kind]


def _range(node: Json) -> str:
    bounds = []
    if "minimum" in node:
        bounds.append(f"{'>' if node.get('exclusiveMinimum') else '≥'} {node['minimum']:g}")
    if "maximum" in node and node["maximum"] < 2**31 - 1:
        bounds.append(f"{'<' if node.get('exclusiveMaximum') else '≤'} {node['maximum']:g}")
    return f" {', '.join(bounds)}" if bounds else ""


def main(folder: Path) -> None:
    """Writes the page."""
    (folder / "reference.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
