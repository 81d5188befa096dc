"""Writes the table of values into the README of each chart. Called by `make generate`."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

CHARTS = Path(__file__).parent
BEGIN, END = "<!-- values -->\n", "<!-- end of values -->\n"


def rows(schema: Mapping[str, Any], values: Any, path: str = "") -> Iterator[tuple[str, str, str]]:
    """Path, default and description of every value that has no further values below it."""
    for name, field in schema["properties"].items():
        here = f"{path}.{name}" if path else name
        below = values.get(name) if isinstance(values, Mapping) else None
        if "properties" in field and below != {}:
            yield from rows(field, below, here)
        elif here != "global":
            yield here, json.dumps(below), field["description"]


def with_table(chart: Path) -> str:
    """The chart's README with the table of its values."""
    readme = (chart / "README.md").read_text(encoding="utf-8")
    schema = json.loads((chart / "values.schema.json").read_text(encoding="utf-8"))
    values = yaml.safe_load((chart / "values.yaml").read_text(encoding="utf-8"))
    lines = ["| value | default | |", "| --- | --- | --- |"]
    lines += [f"| `{path}` | `{default}` | {text} |" for path, default, text in rows(schema, values)]
    before, after = readme.split(BEGIN)[0], readme.split(END)[1]
    return before + BEGIN + "\n".join(lines) + "\n" + END + after


def main() -> None:
    """Writes both."""
    for chart in ("unisd-operator", "unisd-crds"):
        (CHARTS / chart / "README.md").write_text(with_table(CHARTS / chart), encoding="utf-8")


if __name__ == "__main__":
    main()
