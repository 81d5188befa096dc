"""Random specifications made from the models' own JSON Schema, for properties that hold for all of them."""

import random
import re
from collections.abc import Mapping
from typing import Any

from unisd.config.run import RunSpec

SCHEMA = RunSpec.model_json_schema(by_alias=True)
# Names and texts, some of which fit any pattern of the models.
WORDS = ("a", "b", "c1", "lab", "star-1", "200Gi", "4", "lab/x", "data/rows", "x.y", "/root", "../up", "Ä b", "")
OWN_ROWS = {"name": "custom", "source": {"path": "rows"}, "grading": "regex", "pattern": "(.+)"}
LABELS = ("team", "unisd.dev/run", "example.com/cost-center")


SLIP = 0.01
"""How often a single value is wrong by itself."""


def random_spec(chance: random.Random) -> dict[str, Any]:
    """A specification whose values mostly fit by themselves, and often not each other."""
    spec: dict[str, Any] = _value(SCHEMA, chance)
    # Left to chance alone, nearly every one would be wrong in the same few places.
    if chance.random() < 0.8:
        spec["model"] = chance.choice([{"name": "Qwen/Qwen2.5-7B-Instruct"}, {"path": "models/qwen"}])
        spec["task"] = chance.choice([{"name": "scienceqa"}, {"name": "mbpp", "subset": "full"}, OWN_ROWS])
        for number, component in enumerate(spec["components"]):
            component["name"] = f"c{number}"
            component.update({"clip": {"quantile": 0.9}} if "clip" in component else {})
    return spec


def _value(node: Mapping[str, Any], chance: random.Random) -> Any:
    if "$ref" in node:
        return _value(SCHEMA["$defs"][node["$ref"].rsplit("/", 1)[-1]], chance)
    if node.get("anyOf"):
        option = chance.choice([option for option in node["anyOf"] if option.get("type") != "null"])
        return _value({**node, "anyOf": [], **option} if "pattern" in node else option, chance)
    if "enum" in node:
        return chance.choice(node["enum"])
    match node["type"]:
        case "object" if "properties" in node:
            return _block(node, chance)
        case "object":
            values = node["additionalProperties"]
            inner = {"type": "string"} if values is True else values
            return {name: _value(inner, chance) for name in chance.sample(LABELS, chance.randint(0, 2))}
        case "array":
            least = node.get("minItems", 0)
            return [
                _value(node["items"], chance) for _ in range(chance.randint(least, min(node["maxItems"], least + 2)))
            ]
        case "integer" | "number" as kind:
            return _number(node, kind, chance)
        case "boolean":
            return chance.random() < 0.5
        case _:
            return _word(node, chance)


def _word(node: Mapping[str, Any], chance: random.Random) -> str:
    longest, pattern = node.get("maxLength", 99), re.compile(node.get("pattern", ""))
    fitting = [word for word in WORDS if node.get("minLength", 0) <= len(word) <= longest and pattern.search(word)]
    return chance.choice(WORDS if chance.random() < SLIP else fitting)


def _block(node: Mapping[str, Any], chance: random.Random) -> dict[str, Any]:
    required = node.get("required", ())
    share = min(0.5, 2.5 / len(node["properties"]))
    return {
        name: _value(inner, chance)
        for name, inner in node["properties"].items()
        if name in required or chance.random() < share
    }


def _number(node: Mapping[str, Any], kind: str, chance: random.Random) -> float | str:
    low = node.get("minimum", node.get("exclusiveMinimum", 0))
    high = min(node.get("maximum", node.get("exclusiveMaximum", low + 10)), low + 10)
    if kind == "integer":
        wrong = chance.choice([low - 1, str(low), True])
        return wrong if chance.random() < SLIP else chance.choice([low, chance.randint(low, high)])
    return chance.choice([low, high]) if chance.random() < SLIP else chance.uniform(low, high)
