"""A report as a Markdown page with a chart for each task: results to keep beside code. Called by the report stage.

The same figures as on the page of `html`, as far as a table holds them.
"""

from collections.abc import Iterator

from unisd.evaluation.chart import chart
from unisd.evaluation.summary import difference, further, plain, share
from unisd.files import Json

_HEADINGS = ("component", "score, %", "sd", "found, %", "gold ppl", "retention ppl")


def charts(report: Json) -> dict[str, str]:
    """The SVG of each task that has scores, by its file's name."""
    drawn = {f"scores-{task}.svg": chart(results["components"]) for task, results in report["tasks"].items()}
    return {name: svg for name, svg in drawn.items() if svg}


def markdown(report: Json) -> str:
    """The page; it expects its charts beside it."""
    arms = report["arms"].values()
    seeds = len({arm["settings"]["seed"] for arm in arms})
    steps = max((arm["training"]["steps"] for arm in arms if arm["training"]), default=0)
    lines = [
        f"# {report['run']}",
        "",
        f"Model {report['model']['source'].rpartition('/')[2]}, {report['rows']['train']['rows']} training rows, "
        f"{seeds} seed{'s' if seeds > 1 else ''}, at most {steps} optimiser steps; UniSD {report['unisd']}.",
    ]
    drawn = charts(report)
    for task, results in report["tasks"].items():
        lines += ["", f"## {task}, {_rows(results)} rows", "", *_table(results)]
        if f"scores-{task}.svg" in drawn:
            lines += ["", f"![Scores and retention of each component with 95 % intervals](scores-{task}.svg)"]
    lines += ["", *_notes(report)]
    return "\n".join(lines) + "\n"


def _rows(results: Json) -> int:
    return max((len(scores["items"]) for scores in results["components"].values()), default=0)


def _table(results: Json) -> Iterator[str]:
    compared = {row["component"]: row for row in results["comparisons"]}
    besides = further(results["components"])
    headings = [*_HEADINGS, *besides, "against first", "p (Holm)"]
    yield f"| {' | '.join(headings)} |"
    yield f"| --- |{' ---: |' * (len(headings) - 1)}"
    for name, scores in results["components"].items():
        deviation = (scores.get("score") or {}).get("seed_deviation")
        against = compared.get(name)
        cells = [
            name,
            share(scores.get("score")),
            "" if deviation is None else f"{100 * deviation:.1f}",
            share(scores.get("found")),
            plain(scores.get("goldPerplexity")),
            plain(scores.get("retentionPerplexity")),
            *(cells_of[name] for cells_of in besides.values()),
            difference(against).replace("*", r"\*"),
            "" if against is None else f"{against['p_holm']:.3f}",
        ]
        yield f"| {' | '.join(cells)} |"


def _notes(report: Json) -> Iterator[str]:
    """What the figures mean, what they cost, and what went wrong."""
    yield "95 % intervals in brackets; sd is the standard deviation between seeds; `*` differs from the first component"
    yield "after Holm's correction. How each is computed: docs/evaluation.md."
    yield ""
    yield "| component | training s | tokens trained | tokens scored | peak GiB | warned of |"
    yield "| --- | ---: | ---: | ---: | ---: | --- |"
    for name, results in _trainings(report).items():
        cells = [name]
        for key in ("seconds", "tokensTrained", "tokensScored"):
            cells.append(f"{sum(found[key] for found in results) / len(results):,.0f}")
        cells.append(f"{max(found['peakMemoryGiB'] for found in results):.1f}")
        cells.append(", ".join(sorted({warning.split()[0] for found in results for warning in found["warnings"]})))
        yield f"| {' | '.join(cells)} |"
    for name, failure in report["failures"].items():
        yield f"\n**{name} failed**: {failure['reason']}, {failure['message']}"


def _trainings(report: Json) -> dict[str, list[Json]]:
    """What each component's trainings took, one a seed."""
    found: dict[str, list[Json]] = {}
    for arm in report["arms"].values():
        if arm["training"]:
            found.setdefault(arm["settings"]["component"], []).append(arm["training"])
    return found
