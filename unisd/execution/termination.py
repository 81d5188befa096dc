"""What a stage leaves behind for the operator as its container's last words: JSON of at most 4 kB.

`{"failure": {reason, message}}`, `{"result": …}` or both: a training that was stopped has a checkpoint. Called by
`unisd STAGE`, which in a pod has `UNISD_TERMINATION_LOG`; read by `unisd_operator.status`.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from unisd.execution.masking import masked
from unisd.execution.process import Outcome
from unisd.files import Json, read_json
from unisd.job import Job
from unisd.rundir import RunDir
from unisd.stages import Stage

LIMIT = 4096
"""Bytes that the kubelet keeps."""
_LONGEST_MESSAGE = 2048


def leave(path: Path, outcome: Outcome, result: Json, secrets: tuple[str, ...]) -> None:
    """Writes the last words; a failure's words hold none of the environment's secrets."""
    told: Json = {"result": result} if result else {}
    if outcome.reason is not None:
        told["failure"] = {"reason": outcome.reason, "message": masked(outcome.message, secrets)[:_LONGEST_MESSAGE]}
    path.write_text(_fitted(told), encoding="utf-8")


def result_of(job: Job, stage: Stage) -> Json:
    """What stands on disk of a stage's result, from the newest attempt that has one."""
    match stage.kind:
        case "prepare":
            return _prepared(job.directory)
        case "train":
            return _trained(job.directory, stage)
        case "evaluate":
            return {**_prepared(job.directory), **_evaluated(job)}
        case _:
            return {}


def _prepared(directory: RunDir) -> Json:
    values = _read(directory.prepared.record)
    return {"revisions": values["revisions"]} if values else {}


def _trained(directory: RunDir, stage: Stage) -> Json:
    assert stage.arm is not None, "a training belongs to a component"
    found = [values for folder in directory.records(stage.name) if (values := _read(folder / "progress.json"))]
    progress = dict(found[0]) if found else {}
    result: Json = {name: progress.pop(name) for name in ("checkpoint", "policyVersion") if name in progress}
    best = _read(directory.trained(stage.arm.name) / "result.json").get("best")
    return result | ({"progress": progress} if progress else {}) | ({"best": best} if best else {})


def _evaluated(job: Job) -> Json:
    values = _read(job.directory.evaluated(job.required_arm.name) / "evaluation.json")
    return {"evaluations": values["scores"]} if values else {}


def _read(path: Path) -> Json:
    return dict(read_json(path)) if path.is_file() else {}


def _fitted(told: Json) -> str:
    """The message, within its limit: what is told elsewhere too goes first."""
    text = _compact(told)
    for shorter in _shorter(told):
        if len(text.encode()) <= LIMIT:
            break
        text = _compact(shorter)
    return text


def _shorter(told: Json) -> Iterator[Json]:
    """The message, ever shorter: without metrics, then with fewer scores, of which it says how many are left out, then
    with less of the failure's words."""
    result: Json = told.get("result", {})
    result.get("progress", {}).pop("metrics", None)
    yield told
    scores = result.get("evaluations", [])
    for left_out, score in enumerate(_least_first(scores), 1):
        scores.remove(score)
        result["evaluationsLeftOut"] = left_out
        yield told
    while message := told.get("failure", {}).get("message", ""):
        told["failure"]["message"] = message[: len(message) * 7 // 8]
        yield told


def _least_first(scores: Sequence[Json]) -> list[Json]:
    """Scores by what they matter, from the end: further figures of tasks, then the first one of each."""
    tasks = [score["task"] for score in scores]
    further = [score for index, score in enumerate(scores) if score["task"] in tasks[:index]]
    first = [score for index, score in enumerate(scores) if score["task"] not in tasks[:index]]
    return [*reversed(further), *reversed(first)]


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
