"""Writes docs/manifest.md and docs/schema.json from the models: `python -m unisd.config.reference docs`."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from unisd.config.run import RunSpec, SelfDistillRun

_HEAD = """# Manifest reference

Generated from the models by `make generate`. `unisd schema` prints the same as JSON Schema for editors; point yours at
docs/schema.json. `apiVersion: unisd.dev/v1alpha1`, `kind: SelfDistillRun`, `metadata.name` (a DNS label of at most 40
characters), and `spec`:
"""


def manifest_page() -> str:
    """The reference of the manifest in Markdown: one table for each block."""
    sections = [_HEAD]
    for path, model in _blocks("spec", RunSpec):
        sections.append(f"\n## `{path}`\n\n{' '.join((model.__doc__ or '').split())}\n")
        sections.append("| field | type | meaning |\n| --- | --- | --- |")
        sections += [_row(name, field) for name, field in model.model_fields.items()]
    return "\n".join(sections) + "\n"


def _blocks(path: str, model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """Every block reachable from a model, each once, with the path where it first stands."""
    queue, known = [(path, model)], set[type[BaseModel]]()
    while queue:
        here, block = queue.pop(0)
        if block in known:
            continue
        known.add(block)
        yield here, block
        for name, field in block.model_fields.items():
            queue += [(f"{here}.{field.alias or name}", inner) for inner in _models_in(field.annotation)]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in getattr(annotation, "__args__", ()) for model in _models_in(argument)]


def _row(name: str, field: Any) -> str:
    text = " ".join((field.description or "as Kubernetes has it").split()).replace("|", "\\|")
    return f"| `{field.alias or name}` | {_type(field.annotation)} | {text} |"


def _type(annotation: Any) -> str:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "block"
    arguments = [argument for argument in getattr(annotation, "__args__", ()) if argument is not type(None)]
    if str(annotation).startswith("typing.Literal"):
        return " or ".join(f"`{value}`" for value in arguments)
    if getattr(annotation, "__origin__", None) is list:
        return f"list of {_type(arguments[0])}"
    if getattr(annotation, "__origin__", None) is dict:
        return "map"
    if arguments:
        return " or ".join(dict.fromkeys(_type(argument) for argument in arguments))
    return {"str": "text", "int": "integer", "float": "number", "bool": "true or false"}.get(
        getattr(annotation, "__name__", ""), "value"
    )


def main(directory: Path) -> None:
    """Writes both files."""
    schema = json.dumps(SelfDistillRun.model_json_schema(by_alias=True), indent=1)
    (directory / "manifest.md").write_text(manifest_page(), encoding="utf-8")
    (directory / "schema.json").write_text(schema + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
