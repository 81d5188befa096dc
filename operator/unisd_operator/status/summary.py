"""The run as a whole, told from its stages and components: phase, columns, conditions. Pure; called by `derive`."""

from collections.abc import Sequence
from datetime import datetime
from statistics import fmean
from typing import Literal

from unisd.stages import CLOSING
from unisd_operator.api.resource import RunResource
from unisd_operator.api.status import ENDED, Component, Condition, RunPhase, Stage, Status
from unisd_operator.planning.storage import claim_name
from unisd_operator.status.turn import Turn, cut, works

_Truth = tuple[bool, str, str]
"""Whether a condition holds, its reason, its message."""
_QUIET = frozenset({"WaitingForStages", "WaitingForSlot"})
"""Waiting that says nothing about trouble."""


def summarised(turn: Turn, status: Status) -> Status:
    """The status with everything that is told of the run as a whole."""
    phase = _phase(turn, status)
    ended = phase in ENDED
    status = status.model_copy(
        update={
            "observed_generation": turn.run.generation,
            "phase": phase,
            "reason": _reason(turn, status, phase),
            "components_ended": f"{_succeeded(status)}/{len(status.components)}",
            "progress_percentage": _percentage(status.components),
            "best": _best(turn, status.components),
            "completion_time": (status.completion_time or turn.now) if ended else None,
            "claim": claim_name(turn.run),
        }
    )
    return status.model_copy(update={"conditions": _conditions(turn.run, status, _truths(turn, status), turn.now)})


def invalid(run: RunResource, now: datetime) -> Status:
    """The status of a run that cannot be planned: all that is wrong with it, at once."""
    message = cut("\n".join(str(problem) for problem in run.problems), 4096)
    truths: dict[str, _Truth] = {
        "Ready": (False, "InvalidSpec", message),
        "Reconciling": (False, "InvalidSpec", ""),
        "Stalled": (True, "InvalidSpec", message),
        "Complete": (False, "InvalidSpec", ""),
        "Failed": (True, "InvalidSpec", message),
        "Suspended": (False, "InvalidSpec", ""),
    }
    update = {"observed_generation": run.generation, "phase": "Invalid", "reason": "InvalidSpec"}
    status = run.status.model_copy(update=update)
    return status.model_copy(update={"conditions": _conditions(run, status, truths, now)})


# -- phase and columns


def _phase(turn: Turn, status: Status) -> RunPhase:
    if status.phase in ENDED and status.completion_time is not None:
        return status.phase
    if all(work.phase in ENDED for work in works(status)):
        return "Succeeded" if _enough(turn, status) else "Failed"
    if turn.spec.suspend:
        return "Suspended"
    if all(arm.phase in ENDED for arm in status.components):
        return "Reporting"
    prepared = all(stage.phase == "Succeeded" for stage in status.stages if stage.name not in CLOSING)
    if prepared or any(arm.phase not in ("Pending", "Suspended") for arm in status.components):
        return "Running"
    begun = any(stage.phase != "Pending" or stage.attempt > 1 for stage in status.stages)
    return "Preparing" if begun else "Pending"


def _enough(turn: Turn, status: Status) -> bool:
    """Whether enough components succeeded, by the run's success policy, and what closes the run went well."""
    policy = turn.spec.success_policy
    count = len(status.components)
    needed = {"All": count, "Any": 1, "AtLeast": policy.count or count}[policy.type]
    closed = all(stage.phase == "Succeeded" for stage in status.stages if stage.name in CLOSING)
    return closed and _succeeded(status) >= needed


def _succeeded(status: Status) -> int:
    return sum(arm.phase == "Succeeded" for arm in status.components)


def _reason(turn: Turn, status: Status, phase: RunPhase) -> str:
    """One word for why the run is not further: a failure that stays, else what it waits for."""
    if phase in ("Succeeded", "Suspended"):
        return "" if phase == "Succeeded" else "Suspended"
    failed = [work.failure.reason for work in works(status) if work.phase == "Failed" and work.failure]
    if failed:
        return next((reason for reason in failed if reason != "FailFast"), failed[0])
    if turn.observed.foreign_claim:
        return "ForeignClaim"
    waits = [work.waiting.reason for work in works(status) if work.phase not in ENDED and work.waiting]
    return next((reason for reason in waits if reason not in _QUIET), "")


def _percentage(components: Sequence[Component]) -> int:
    return int(fmean(_share(arm) for arm in components)) if components else 0


def _share(arm: Component) -> int:
    """How far a component is, percent; all of it only once it is evaluated."""
    if arm.phase == "Succeeded":
        return 100
    return min(arm.progress.progress_percentage, 99) if arm.progress else 0


def _best(turn: Turn, components: Sequence[Component]) -> str:
    """The best component by the first metric of the run's own task, over its seeds, and its score."""
    scores: dict[str, list[float]] = {}
    metric = ""
    for arm in components:
        own = [score for score in arm.evaluations if score.task == turn.spec.task.name]
        if own:
            metric = metric or own[0].metric
            scores.setdefault(arm.component, []).extend(score.score for score in own if score.metric == metric)
    means = {name: fmean(values) for name, values in scores.items() if values}
    if not means:
        return ""
    choose = min if "perplexity" in metric.lower() else max
    name = choose(means, key=lambda key: means[key])
    return f"{name} {means[name]:.3f}"


# -- conditions


def _truths(turn: Turn, status: Status) -> dict[str, _Truth]:
    """Every condition of a valid run. Reconciling stands before Stalled: kstatus takes the first that holds."""
    phase, told = status.phase, _told(turn, status)
    reason = status.reason or phase
    going = phase not in (*ENDED, "Suspended")
    stalled = _stalled(turn, status)
    return {
        "Ready": (phase == "Succeeded", phase if phase in ("Succeeded", "Suspended") else reason, told),
        "Reconciling": (going and not turn.observed.foreign_claim, reason if going else phase, told if going else ""),
        "Stalled": stalled or (False, phase, ""),
        "Complete": (phase == "Succeeded", phase, told if phase == "Succeeded" else ""),
        "Failed": (phase == "Failed", reason if phase == "Failed" else phase, told if phase == "Failed" else ""),
        "Suspended": (phase == "Suspended", phase, told if phase == "Suspended" else ""),
        "WeightsStale": _weights_stale(turn, status),
        "ProgressUnavailable": _progress_unavailable(turn, status),
    }


def _stalled(turn: Turn, status: Status) -> _Truth | None:
    """What only a person can mend; a component that the API server refused shows while the others go on."""
    if status.phase == "Failed":
        return True, status.reason or "Failed", _told(turn, status)
    if status.phase in (*ENDED, "Suspended"):
        return None
    if turn.observed.foreign_claim:
        return True, "ForeignClaim", _told(turn, status)
    refused = [f"{work.name}: {work.failure.message}" for work in works(status) if _is_refused(work) and work.failure]
    return (True, "InvalidSpec", cut("; ".join(refused), 4096)) if refused else None


def _is_refused(work: Stage | Component) -> bool:
    return work.phase == "Failed" and work.failure is not None and work.failure.reason == "InvalidSpec"


def _told(turn: Turn, status: Status) -> str:
    """A sentence about where the run is."""
    if status.phase == "Suspended":
        left = sum(not pod.ended for pod in turn.observed.pods)
        return "spec.suspend is true" + (f"; {left} pods have not ended yet" if left else "; no pod is left")
    if turn.observed.foreign_claim and status.phase not in ENDED:
        return (
            f"claim {status.claim} exists and was not made for this run: delete or rename it, or set "
            f"storage.existingClaim to {status.claim} in a new run to use it"
        )
    failed = [
        f"{work.name}: {work.failure.message}" for work in works(status) if work.phase == "Failed" and work.failure
    ]
    waits = [f"{work.name}: {work.waiting.message}" for work in works(status) if _waits(work) and work.waiting]
    counted = f"{status.components_ended} components succeeded"
    return cut("; ".join([counted, *failed, *waits][:8]), 2048)


def _waits(work: Stage | Component) -> bool:
    return work.phase not in ENDED and work.waiting is not None and work.waiting.reason not in _QUIET


def _weights_stale(turn: Turn, status: Status) -> _Truth:
    limit = turn.settings.max_lag
    stale = [
        f"{arm.name}: trainer {arm.policy_version.trainer}, servers {arm.policy_version.rollout}"
        for arm in status.components
        if arm.phase == "Training" and arm.policy_version
        if arm.policy_version.trainer - arm.policy_version.rollout > limit
    ]
    if not stale:
        return False, "WithinLimit", ""
    return True, "Lag", cut(f"servers lag more than {limit} versions behind: {'; '.join(stale)}", 4096)


def _progress_unavailable(turn: Turn, status: Status) -> _Truth:
    answers = turn.observed.answers
    silent = [
        f"{arm.name}: {answers[arm.name].error or 'an answer that is not understood'}"
        for arm in status.components
        if arm.phase == "Training" and arm.name in answers and answers[arm.name].values is None
    ]
    if not silent:
        return False, "Answered", ""
    return True, "NoAnswer", cut(f"training goes on, its progress is not known: {'; '.join(silent)}", 4096)


def _conditions(run: RunResource, status: Status, truths: dict[str, _Truth], now: datetime) -> list[Condition]:
    before = {condition.type: condition for condition in status.conditions}
    found = []
    for name, (holds, reason, message) in truths.items():
        value: Literal["True", "False"] = "True" if holds else "False"
        old = before.get(name)
        since = old.last_transition_time if old and old.status == value else now
        found.append(
            Condition(
                type=name,
                status=value,
                observed_generation=run.generation,
                last_transition_time=since,
                reason=reason or "Unknown",
                message=message,
            )
        )
    return found
