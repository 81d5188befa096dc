"""The table that a run ends with on a terminal, from report.json."""

from rich.table import Table

from unisd.rundir import Json


def summary_table(report: Json) -> Table:
    """One row per component and task: scores with 95 % intervals, perplexities, cost."""
    table = Table(
        box=None,
        padding=(0, 2, 0, 0),
        title=f"{report['run']}: {report['model']['source'].rpartition('/')[2]}",
        title_justify="left",
    )
    several = len(report["tasks"]) > 1
    headings = ["component", "score", "answers found", "gold perplexity", "retention", "against first", "minutes"]
    for heading in ["task", *headings] if several else headings:
        table.add_column(heading, justify="left" if heading in ("task", "component") else "right")
    for task, results in report["tasks"].items():
        compared = {row["component"]: row for row in results["comparisons"]}
        for name, scores in results["components"].items():
            cells = [
                name,
                _share(scores.get("score")),
                _share(scores.get("found")),
                _plain(scores.get("goldPerplexity")),
                _plain(scores.get("retentionPerplexity")),
                _difference(compared.get(name)),
                _minutes(report, name),
            ]
            table.add_row(*([task, *cells] if several else cells))
    for name, failure in report["failures"].items():
        table.add_row(name, f"failed: {failure['reason']}", style="red")
    table.caption = "scores in %, 95 % intervals in brackets; * differs after Holm's correction" + _left_out(report)
    return table


def _left_out(report: Json) -> str:
    rows = report["rows"]
    evaluation = sum(found["dropped"] for found in rows["evaluation"].values())
    if not rows["train"]["dropped"] and not evaluation:
        return ""
    return f"\ntoo long and left out: {len(rows['train']['dropped'])} training and {evaluation} evaluation rows"


def _share(estimate: Json | None) -> str:
    if estimate is None:
        return "–"
    value, low, high = (100 * estimate[key] for key in ("value", "low", "high"))
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def _plain(estimate: Json | None) -> str:
    return "–" if estimate is None else f"{estimate['value']:.2f} [{estimate['low']:.2f}, {estimate['high']:.2f}]"


def _difference(row: Json | None) -> str:
    if row is None:
        return ""
    return (
        f"{100 * row['value']:+.1f} [{100 * row['low']:+.1f}, {100 * row['high']:+.1f}]{' *' if row['differs'] else ''}"
    )


def _minutes(report: Json, component: str) -> str:
    arms = [arm for arm in report["arms"].values() if arm["settings"]["component"] == component]
    return f"{sum(sum(arm['stageSeconds'].values()) for arm in arms) / 60:.1f}"
