"""What every configuration model shares, and how a problem with one is told.

Called by every module of `unisd.config`. Reads no files: see `load`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

MAX_INT = 2**31 - 1
"""Every integer fits 32 bits: what reads it may be NumPy's seed or Kubernetes' int32."""
PositiveInt = Annotated[int, Field(ge=1, le=MAX_INT)]
NonNegativeInt = Annotated[int, Field(ge=0, le=MAX_INT)]
Name = Annotated[str, Field(min_length=1, max_length=253)]
Text = Annotated[str, Field(max_length=4096)]
FilePath = Annotated[str, Field(min_length=1, max_length=4096)]
# A repository, with its owner before it on most hubs. What starts like a path is one, and belongs into another field.
HubId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][-A-Za-z0-9._]*(/[A-Za-z0-9][-A-Za-z0-9._]*)?$", max_length=253)]
# A name of Kubernetes' own: a DNS subdomain.
ObjectName = Annotated[
    str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$", max_length=253)
]
DataKey = Annotated[str, Field(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class Config(BaseModel):
    """A frozen block of the manifest: camelCase in YAML, snake_case in Python, unknown fields refused."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a manifest: where, what was given, and the way out."""

    path: str
    """Field path as the user writes it, e.g. `spec.components[1].clip.value`."""
    message: str
    """What is wrong and how to mend it."""
    value: object = None
    """The offending value; None where there is none to show."""

    def __str__(self) -> str:
        shown = "" if self.value is None else f" (got {self.value!r})"
        return f"{self.path}: {self.message}{shown}"


class ConfigError(ValueError):
    """A manifest that cannot be run; carries every problem found, so that all are shown at once."""

    def __init__(self, problems: Sequence[Problem], source: str = "manifest") -> None:
        self.problems = tuple(problems)
        self.source = source
        super().__init__("\n".join(f"{source}: {problem}" for problem in self.problems))
