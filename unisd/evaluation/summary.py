"""The table that a run ends with on a terminal, from report.json."""

from rich.table import Table

from unisd.rundir import Json

_WIDE = 120


def summary_table(report: Json, width: int) -> Table:
    """One row per component and task: scores with 95 % intervals, perplexities, cost.

    On a screen of fewer than 120 columns, intervals stand below their figures.
    """
    narrow = width < _WIDE
    table = Table(
        box=None,
        padding=(0, 1 if narrow else 2, 0, 0),
        pad_edge=False,
        title=f"{report['run']}: {report['model']['source'].rpartition('/')[2]}",
        title_justify="left",
        caption_justify="left",
    )
    several = len(report["tasks"]) > 1
    headings = ["component", "score", "answers found", "gold perplexity", "retention", "against first"]
    headings.append("min" if narrow else "minutes")
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
            if narrow:
                cells = [cell.replace(" [", "\n[") for cell in cells]
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
    value, low, high = (f"{100 * estimate[key]:.1f}".replace("100.0", "100") for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def _plain(estimate: Json | None) -> str:
    if estimate is None:
        return "–"
    value, low, high = (f"{estimate[key]:.{1 if estimate['high'] >= 10 else 2}f}" for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def _difference(row: Json | None) -> str:
    if row is None:
        return ""
    value, low, high = (f"{100 * row[key]:+.1f}" for key in ("value", "low", "high"))
    return f"{value}{' *' if row['differs'] else ''} [{low}, {high}]"


def _minutes(report: Json, component: str) -> str:
    arms = [arm for arm in report["arms"].values() if arm["settings"]["component"] == component]
    return f"{sum(sum(arm['stageSeconds'].values()) for arm in arms) / 60:.1f}"
