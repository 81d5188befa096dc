"""The report stage: results of all components gathered, compared, and written as JSON, HTML and Markdown."""

import math
from collections.abc import Sequence
from typing import Any

from unisd import __version__
from unisd.config.resolve import Arm, evaluated_tasks, resolve
from unisd.evaluation import comparison
from unisd.evaluation.figures import column, figures
from unisd.evaluation.html import render
from unisd.evaluation.markdown import charts, markdown
from unisd.files import Json, read_json, read_jsonl, write_json, write_text
from unisd.job import Job
from unisd.prepared import load_prepared
from unisd.rundir import RunDir
from unisd.tasks.catalog import task_for

SAMPLES = 4


def report(job: Job) -> None:
    """Writes report.json, report.html, report.md and its charts from whatever components have results."""
    gathered = gather(job)
    write_json(job.directory.report / "report.json", gathered)
    pages = {"report.html": render(gathered), "report.md": markdown(gathered), **charts(gathered)}
    for name, text in pages.items():
        write_text(job.directory.report / name, text)


def gather(job: Job) -> Json:
    """Everything that the report shows, as plain values; docs/evaluation.md describes the schema."""
    arms = resolve(job.spec)
    prepared = load_prepared(job.directory.prepared)
    components: dict[str, list[Arm]] = {}
    for arm in arms:
        components.setdefault(arm.component, []).append(arm)
    scored = {name: _scored(job.directory, found) for name, found in components.items()}
    tasks = {
        config.name: {
            "components": _task_scores(job, config.name, scored, components),
            "comparisons": _comparisons(job.directory, config.name, scored, graded=task_for(config).metric != "none"),
        }
        for config in evaluated_tasks(job.spec)
    }
    return {
        "unisd": __version__,
        "run": job.run.metadata.name,
        "model": prepared.values["model"],
        "task": job.spec.task.model_dump(mode="json", by_alias=True, exclude_none=True),
        "rows": {key: prepared.values[key] for key in ("train", "probe", "evaluation")},
        "tasks": tasks,
        "arms": {arm.name: _arm(job.directory, arm) for arm in arms},
        "failures": {arm.name: failure for arm in arms if (failure := _failure(job.directory, arm))},
    }


def _scored(directory: RunDir, arms: Sequence[Arm]) -> list[str]:
    """Names of the arms that have an evaluation."""
    return [arm.name for arm in arms if (directory.evaluated(arm.name) / "evaluation.json").is_file()]


def _items(directory: RunDir, task: str, names: Sequence[str]) -> list[list[Json]]:
    return [read_jsonl(directory.evaluated(name) / f"items-{task}.jsonl") for name in names]


def _task_scores(
    job: Job, task: str, scored: dict[str, list[str]], components: dict[str, list[Arm]]
) -> dict[str, Json]:
    directory, passes = job.directory, job.spec.evaluation.passes or [1]
    found = {}
    for name, arms in scored.items():
        if not arms:
            continue
        items_SI = _items(directory, task, arms)
        metric = read_json(directory.evaluated(arms[0]) / "evaluation.json")["tasks"][task]["metric"]
        scores: Json = {"seeds": len(arms), "method": components[name][0].method, **figures(items_SI, metric, passes)}
        scores["samples"] = items_SI[0][:SAMPLES]
        scores["items"] = [_item(rows) for rows in zip(*items_SI, strict=True)]
        found[name] = scores
    return found


def _item(rows: Sequence[Json]) -> Json:
    """One evaluation row over all seeds: mean score, and perplexities and divergence of its own."""
    item: Json = {"id": rows[0]["id"], "score": sum(row["correct"] for row in rows) / len(rows)}
    for kind in ("gold", "retention"):
        if f"{kind}Nats" in rows[0]:
            tokens = sum(row[f"{kind}Tokens"] for row in rows)
            item[f"{kind}Perplexity"] = math.exp(min(sum(row[f"{kind}Nats"] for row in rows) / max(tokens, 1), 700.0))
    if "divergence" in rows[0]:
        item["divergence"] = sum(row["divergence"] for row in rows) / len(rows)
    return item


def _comparisons(directory: RunDir, task: str, scored: dict[str, list[str]], *, graded: bool) -> list[Json]:
    """Every component against the first that has a result, which is where differences are read from."""
    names = [name for name, arms in scored.items() if arms]
    if len(names) < 2 or not graded:
        return []
    base, *others = names
    columns = {name: column(_items(directory, task, scored[name]), "correct") for name in names}
    differences = comparison.holm({name: comparison.difference(columns[name], columns[base]) for name in others})
    return [
        {"component": name, "against": base, **vars(difference), "differs": difference.differs}
        for name, difference in differences.items()
    ]


def _arm(directory: RunDir, arm: Arm) -> Json:
    train, stages = directory.trained(arm.name), {}
    for kind in ("train", "evaluate"):
        records = (folder / "done.json" for folder in directory.records(f"{kind}/{arm.name}"))
        if (done := next((path for path in records if path.is_file()), None)) is not None:
            stages[kind] = read_json(done)["seconds"]
    result: Any = read_json(train / "result.json") if (train / "result.json").is_file() else None
    curves = read_jsonl(train / "metrics.jsonl") if (train / "metrics.jsonl").is_file() else []
    probes = read_jsonl(train / "probes.jsonl") if (train / "probes.jsonl").is_file() else []
    return {
        "settings": arm.model_dump(mode="json", by_alias=True, exclude_none=True),
        "training": result,
        "curves": curves,
        "probes": probes,
        "stageSeconds": stages,
    }


def _failure(directory: RunDir, arm: Arm) -> Json | None:
    """Why the newest attempt failed; what failed before it does not count any more."""
    for name in (f"train/{arm.name}", f"evaluate/{arm.name}"):
        newest = next(iter(directory.records(name)), None)
        if newest is not None and (newest / "failure.json").is_file():
            return {"stage": name, **read_json(newest / "failure.json")}
    return None
