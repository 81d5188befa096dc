"""A run's `status` as rows of the table that local runs show. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from unisd.local.display import Row
from unisd.local.state import Phase
from unisd.stages import CLOSING

# One look for both worlds: a cluster knows more phases than one machine does.
_PHASES: dict[str, Phase] = {
    "Pending": "waiting",
    "Queued": "waiting",
    "Starting": "running",
    "Running": "running",
    "Training": "running",
    "Evaluating": "running",
    "Suspended": "stopped",
    "Succeeded": "finished",
    "Failed": "failed",
}
Entry = Mapping[str, Any]


def headline(run: Entry) -> str:
    """Phase of the run and what its conditions say, in a line or two."""
    status: Entry = run.get("status", {})
    if status.get("observedGeneration", -1) < 0:
        return f"{run['metadata']['name']}: not seen by the operator yet; is it running?"
    told: dict[str, list[str]] = {}
    for condition in status.get("conditions", []):
        if condition["status"] == "True" and condition["type"] not in ("Ready", "Reconciling"):
            told.setdefault(condition["message"], []).append(condition["type"])
    lines = [f"{', '.join(types)}: {message}" for message, types in told.items() if message]
    return "\n".join([f"{run['metadata']['name']}: {status['phase']}", *lines])


def rows(run: Entry, now: datetime) -> list[Row]:
    """A row for each shared stage and each component at each seed; what closes a run comes last, as it does in time."""
    status: Entry = run.get("status", {})
    stages: Sequence[Entry] = status.get("stages", [])
    before = [entry for entry in stages if entry["name"] not in CLOSING]
    after = [entry for entry in stages if entry["name"] in CLOSING]
    return [_row(entry, now) for entry in [*before, *status.get("components", []), *after]]


def _row(entry: Entry, now: datetime) -> Row:
    phase = _PHASES[entry["phase"]]
    return Row(
        name=entry["name"],
        phase=phase,
        seconds=_seconds(entry, now),
        progress=dict(entry.get("progress") or {}),
        failure=dict(entry["failure"]) if phase == "failed" and entry.get("failure") else None,
        note=_note(entry),
    )


def _seconds(entry: Entry, now: datetime) -> float:
    if not entry.get("startTime"):
        return 0.0
    end = datetime.fromisoformat(entry["completionTime"]) if entry.get("completionTime") else now
    return (end - datetime.fromisoformat(entry["startTime"])).total_seconds()


def _note(entry: Entry) -> str:
    scores = "  ".join(f"{score['task']} {score['metric']} {_score(score)}" for score in entry.get("evaluations") or ())
    if scores:
        left_out = entry.get("evaluationsLeftOut")
        return f"{scores}  and {left_out} more in the report" if left_out else scores
    words = []
    if entry.get("waiting"):
        words.append(f"{entry['waiting']['reason']}: {entry['waiting'].get('message', '')}".removesuffix(": "))
    elif entry["phase"] in ("Starting", "Evaluating"):
        words.append(entry["phase"].lower())
    if entry.get("attempt", 1) > 1:
        words.append(f"attempt {entry['attempt']}")
    if entry.get("failure") and entry["phase"] != "Failed":
        words.append(f"before: {entry['failure']['reason']}")
    return ", ".join(words)


def _score(score: Entry) -> str:
    interval = f" [{score['low']:.3g}, {score['high']:.3g}]" if score.get("low") is not None else ""
    return f"{score['score']:.3g}{interval}"


def failure_of(run: Entry, name: str) -> Entry | None:
    """The newest failure of a component or stage, if it has one."""
    status: Entry = run.get("status", {})
    entries = [*status.get("stages", []), *status.get("components", [])]
    return next((entry.get("failure") for entry in entries if entry["name"] == name), None)


def names(run: Entry) -> list[str]:
    """Names of all stages and components of a run, as `unisd logs` takes them."""
    status: Entry = run.get("status", {})
    return [entry["name"] for entry in [*status.get("stages", []), *status.get("components", [])]]
