"""Manifests: a file or plain data in, a validated `SelfDistillRun` or a `ConfigError` with every problem out."""

import difflib
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from unisd.config.base import ConfigError, Problem
from unisd.config.problems import cluster_problems, machine_problems, problems
from unisd.config.run import RunSpec, SelfDistillRun
from unisd.config.yaml_file import read_yaml

_OF_THE_SERVER = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "uid")


def load_run(path: Path) -> SelfDistillRun:
    """The run that a manifest describes, with local paths made absolute against the manifest's folder.

    Raises:
        ConfigError: file missing, not YAML, or any problem of fields; all problems at once.
    """
    run = parse_run(read_yaml(path), source=str(path))
    return _absolute_paths(run, path.resolve().parent)


def load_cluster_run(path: Path) -> SelfDistillRun:
    """The run that a manifest describes, as a cluster takes it. Raises ConfigError as `load_run` does."""
    return parse_cluster_run(read_yaml(path), source=str(path))


def parse_run(data: object, source: str = "manifest") -> SelfDistillRun:
    """The run that plain data describes, to be run on one machine. Raises ConfigError with every problem."""
    return _parse(data, source, machine_problems)


def parse_cluster_run(data: object, source: str = "manifest") -> SelfDistillRun:
    """The run that plain data describes, to be run on a cluster. Raises ConfigError with every problem."""
    return _parse(data, source, cluster_problems)


def _parse(data: object, source: str, of_the_place: Callable[[RunSpec], list[Problem]]) -> SelfDistillRun:
    if not isinstance(data, Mapping):
        raise ConfigError(
            [Problem("(document)", "a manifest is a mapping with apiVersion, kind, metadata, spec")], source
        )
    try:
        run = SelfDistillRun.model_validate(_as_given(data), strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        raise ConfigError([_problem(detail) for detail in error.errors()], source) from None
    except RecursionError:
        raise ConfigError([Problem("(document)", "is nested too deeply, or holds itself")], source) from None
    found = [*problems(run.spec), *of_the_place(run.spec)]
    if found:
        raise ConfigError(found, source)
    return run


def _as_given(data: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest without what the API server adds to it, so that what `kubectl get -o yaml` prints is one, too."""
    given: dict[str, Any] = _as_json({name: value for name, value in data.items() if name != "status"})
    if isinstance(given.get("metadata"), dict):
        given["metadata"] = {name: value for name, value in given["metadata"].items() if name not in _OF_THE_SERVER}
    return given


def _as_json(value: Any) -> Any:
    """Plain data as the API server takes it: null is the same as nothing, and 3.0 the same as 3."""
    match value:
        case Mapping():
            return {name: _as_json(inner) for name, inner in value.items() if inner is not None}
        case list():
            return [_as_json(inner) for inner in value]
        case float() if value.is_integer():
            return int(value)
        case _:
            return value


def plain(run: SelfDistillRun) -> dict[str, Any]:
    """The run as plain data that parses to the same run: what was not given stays so, for overrides hang on it."""
    return run.model_dump(mode="json", by_alias=True, exclude_unset=True)


def _problem(detail: ErrorDetails) -> Problem:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in detail["loc"]).lstrip(".")
    if detail["type"] == "extra_forbidden":
        return Problem(path, f"unknown field{_suggestion(detail)}")
    if detail["type"] == "missing":
        return Problem(path, "is required")
    return Problem(path, _in_words(detail["msg"]), detail["input"])


def _in_words(message: str) -> str:
    """What Pydantic says, without what only its programmers know."""
    message = re.sub(r"^(?:Value error, |(?:Input|String|List|Dictionary) (?=should ))", "", message)
    message = re.sub(r"a valid dictionary or instance of \w+|a valid dictionary", "a mapping of fields", message)
    return re.sub(r" after validation, not \d+$", "", message)


def _suggestion(detail: ErrorDetails) -> str:
    """Which known field the unknown one may have meant."""
    fields = _fields_at(SelfDistillRun, [part for part in detail["loc"][:-1] if isinstance(part, str)])
    close = difflib.get_close_matches(str(detail["loc"][-1]), fields, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known here: {', '.join(sorted(fields))}"


def _fields_at(model: type[BaseModel], path: list[str]) -> list[str]:
    for part in path:
        field = next((field for name, field in model.model_fields.items() if (field.alias or name) == part), None)
        inner = _model_in(field.annotation) if field is not None else None
        if inner is None:
            return []
        model = inner
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(
        (inner for argument in getattr(annotation, "__args__", ()) if (inner := _model_in(argument)) is not None), None
    )


def _absolute_paths(run: SelfDistillRun, folder: Path) -> SelfDistillRun:
    spec = run.spec
    if spec.model.path is not None:
        model = spec.model.model_copy(update={"path": str(folder / spec.model.path)})
        spec = spec.model_copy(update={"model": model})
    if spec.task.source is not None and spec.task.source.path is not None:
        source = spec.task.source.model_copy(update={"path": str(folder / spec.task.source.path)})
        spec = spec.model_copy(update={"task": spec.task.model_copy(update={"source": source})})
    if spec.evaluation.sources is not None:
        sources = [
            given if given.path is None else given.model_copy(update={"path": str(folder / given.path)})
            for given in spec.evaluation.sources
        ]
        spec = spec.model_copy(update={"evaluation": spec.evaluation.model_copy(update={"sources": sources})})
    encoder = folder / spec.contexts.embedding_model
    if os.path.isdir(encoder):  # noqa: PTH112 - Path.is_dir raises for names that are too long
        contexts = spec.contexts.model_copy(update={"embedding_model": str(encoder)})
        spec = spec.model_copy(update={"contexts": contexts})
    return run.model_copy(update={"spec": spec})
