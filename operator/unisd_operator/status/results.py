"""What pods say of themselves: answers of `/progress` while they run, termination messages when they end. Pure.

Both come from containers, so nothing in them is trusted: what cannot be read is not there.
"""

import sys
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from unisd_operator.api.status import Checkpoint, Component, PolicyVersion, Progress, Rollout, Score, Stage
from unisd_operator.observed import PodState
from unisd_operator.status.turn import Turn, but
from unisd_operator.untrusted import parsed, whole_number

Model = TypeVar("Model", bound=BaseModel)
MAX_METRICS = 64
MAX_SCORES = 64
METER_EVERY = timedelta(seconds=60)
_LARGEST_INTEGER = 2**53
"""What every reader of JSON still holds."""


def left(pods: Iterable[PodState]) -> Mapping[str, Any] | None:
    """The result in the termination message of the first pod that left one; a trainer that was stopped does, too."""
    for pod in pods:
        for container in pod.containers:
            result = message(container.terminated_message).get("result")
            if isinstance(result, Mapping):
                return result
    return None


def message(text: str) -> Mapping[str, Any]:
    """A termination message as a mapping; empty if it is none."""
    try:
        value = parsed(text)
    except ValueError:
        return {}
    return value if isinstance(value, Mapping) else {}


def with_answer(turn: Turn, arm: Component) -> Component:
    """The component with what its trainer last answered in this attempt."""
    answer = turn.observed.answers.get(arm.name)
    if answer is None or answer.values is None or arm.admitted_time is None or answer.time < arm.admitted_time:
        return arm
    return _with_values(arm, answer.values, answer.time)


def with_stage_answer(turn: Turn, stage: Stage) -> Stage:
    """The stage with what its pod last answered in this attempt."""
    answer = turn.observed.answers.get(stage.name)
    if answer is None or stage.admitted_time is None or answer.time < stage.admitted_time:
        return stage
    found = read_progress(answer.values)
    return but(stage, progress=_moved(stage.progress or Progress(), found, answer.time)) if found else stage


def with_result(turn: Turn, arm: Component, result: Mapping[str, Any] | None) -> Component:
    """The component with what a stage of it left behind."""
    if result is None:
        return arm
    arm = _with_values(arm, result, turn.now)
    arm = but(arm, revisions=texts(result.get("revisions")) or arm.revisions)
    scores = [score for item in _list(result.get("evaluations")) if (score := _read(Score, item)) is not None]
    if not scores:
        return arm
    more = whole_number(result.get("evaluationsLeftOut")) + len(scores[MAX_SCORES:])
    return but(arm, evaluations=scores[:MAX_SCORES], evaluations_left_out=min(more, _LARGEST_INTEGER) or None)


def with_rollout(turn: Turn, arm: Component) -> Component:
    """The component with the count of its rollout servers."""
    servers = turn.deployment(arm)
    return but(arm, rollout=Rollout(ready=servers.ready, desired=servers.replicas) if servers else None)


def read_progress(values: object) -> Progress | None:
    """Progress in an answer; None if there is none that can be read."""
    if not isinstance(values, Mapping) or "step" not in values:
        return None
    fields = ("step", "totalSteps", "progressPercentage", "estimatedRemainingSeconds")
    known = {name: values[name] for name in fields if values.get(name) is not None}
    return _read(Progress, {**known, "metrics": _numbers(values.get("metrics"))})


def texts(values: object) -> dict[str, str]:
    """The texts of a mapping, few and short as status wants them."""
    if not isinstance(values, Mapping):
        return {}
    return {str(key): value[:1024] for key, value in list(values.items())[:8] if isinstance(value, str)}


def with_gpu_time(turn: Turn, arm: Component, changed: bool) -> Component:
    """The component with the GPU time of its pods until now: at each change of phase, else about once a minute."""
    pods = [pod for pod in turn.all_pods(arm) if pod.gpus and pod.started]
    since = arm.metered_time or min((pod.started for pod in pods if pod.started), default=turn.now)
    if not pods or not (changed or turn.now - since >= METER_EVERY):
        return arm
    seconds = sum(pod.gpus * _ran(pod, since, turn.now) for pod in pods)
    if not seconds:
        return arm
    return but(arm, gpu_seconds=round(arm.gpu_seconds + seconds, 1), metered_time=turn.now)


def _ran(pod: PodState, since: datetime, now: datetime) -> float:
    """Seconds that a pod ran from `since` to `now`."""
    ends = [container.ended for container in pod.containers if container.ended is not None and not container.running]
    end = max(ends) if ends and pod.ended else now
    begin = max(pod.started or now, since)
    return max(0.0, (min(end, now) - begin).total_seconds())


def _with_values(arm: Component, values: Mapping[str, Any], time: datetime) -> Component:
    found = read_progress(values.get("progress", values))
    checkpoint = _read(Checkpoint, values.get("checkpoint"))
    versions = _read(PolicyVersion, values.get("policyVersion"))
    return but(
        arm,
        progress=_moved(arm.progress or Progress(), found, time) if found else arm.progress,
        checkpoint=checkpoint or arm.checkpoint,
        policy_version=versions or arm.policy_version,
    )


def _moved(before: Progress, found: Progress, time: datetime) -> Progress:
    """The progress found, with the time at which its step last moved on.

    A step below the one before is where a new attempt resumes, not a movement.
    """
    moved = time if found.step > before.step else before.last_updated_time
    return found.model_copy(update={"last_updated_time": moved})


def _read(model: type[Model], value: object) -> Model | None:
    """The value as a model; None if it is not one. Fields that the model does not know are left out."""
    if not isinstance(value, Mapping):
        return None
    names = {field.alias or name for name, field in model.model_fields.items()}
    known = {key: item for key, item in value.items() if key in names}
    if any(isinstance(item, int) and abs(item) > _LARGEST_INTEGER for item in known.values()):
        return None
    try:
        return model.model_validate(known)
    except ValidationError:
        return None


def _numbers(values: object) -> dict[str, float]:
    if not isinstance(values, Mapping):
        return {}
    numbers = {str(key): value for key, value in values.items() if isinstance(value, int | float)}
    finite = {key: float(value) for key, value in numbers.items() if abs(value) <= sys.float_info.max}
    return dict(list(finite.items())[:MAX_METRICS])


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
