"""Tables for a terminal: what a run ends with, from report.json, and the figures of one model; cells of all tables."""

from collections.abc import Mapping

from rich.table import Table

from unisd.files import Json

_WIDE = 120
_MOST_GROUPS = 10


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
                share(scores.get("score")),
                share(scores.get("found")),
                plain(scores.get("goldPerplexity")),
                plain(scores.get("retentionPerplexity")),
                difference(compared.get(name)),
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


def share(estimate: Json | None) -> str:
    """A proportion in percent with its interval."""
    if estimate is None:
        return "–"
    value, low, high = (f"{100 * estimate[key]:.1f}".replace("100.0", "100") for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def plain(estimate: Json | None) -> str:
    """A figure with its interval."""
    if estimate is None:
        return "–"
    value, low, high = (f"{estimate[key]:.{1 if estimate['high'] >= 10 else 2}f}" for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def difference(row: Json | None) -> str:
    """A difference in points with its interval, starred if it is one."""
    if row is None:
        return ""
    value, low, high = (f"{100 * row[key]:+.1f}" for key in ("value", "low", "high"))
    return f"{value}{' *' if row['differs'] else ''} [{low}, {high}]"


def _minutes(report: Json, component: str) -> str:
    arms = [arm for arm in report["arms"].values() if arm["settings"]["component"] == component]
    return f"{sum(sum(arm['stageSeconds'].values()) for arm in arms) / 60:.1f}"


def further(rows: Mapping[str, Json]) -> dict[str, dict[str, str]]:
    """Columns of what is measured on request, the divergence to the base and each pass@k: the cell of every row."""
    columns = {}
    if any("divergence" in found for found in rows.values()):
        columns["JSD to base"] = {name: _nats(found.get("divergence")) for name, found in rows.items()}
    for k in dict.fromkeys(k for found in rows.values() for k in found.get("passAt", {})):
        columns[f"pass@{k}, %"] = {name: share(found.get("passAt", {}).get(k)) for name, found in rows.items()}
    return columns


def model_table(model: str, tasks: Json) -> list[Table]:
    """The figures of one model on tasks, and below them the finer ones and the scores by what rows are about."""
    table = Table(box=None, pad_edge=False, title=model, title_justify="left", caption_justify="left")
    headings, besides = (
        ["task", "rows", "score", "answers found", "ended", "gold perplexity", "retention"],
        further(tasks),
    )
    for heading in [*headings, *besides]:
        table.add_column(heading, justify="left" if heading == "task" else "right")
    for task, found in tasks.items():
        cells = [task, str(found["rows"])]
        cells += [share(found.get(name)) for name in ("score", "found", "finished")]
        cells += [plain(found.get(name)) for name in ("goldPerplexity", "retentionPerplexity")]
        table.add_row(*cells, *(cells_of[task] for cells_of in besides.values()))
    dropped = sum(found["dropped"] for found in tasks.values())
    table.caption = "scores in %, 95 % intervals in brackets" + (f"; {dropped} rows too long" if dropped else "")
    return [table, *_finer(tasks)]


def _finer(tasks: Json) -> list[Table]:
    tables = []
    for task, found in tasks.items():
        rows = [(name, "", value) for name, value in found.get("parts", {}).items()]
        for kind, values in found.get("groups", {}).items():
            ranked = sorted(values, key=lambda value: (-values[value]["rows"], value))[:_MOST_GROUPS]
            rows += [(f"{kind}: {value}", str(values[value]["rows"]), values[value]["score"]) for value in ranked]
        if rows:
            table = Table(box=None, pad_edge=False, title=f"\n{task}", title_justify="left")
            for heading in ("of which", "rows", "%"):
                table.add_column(heading, justify="left" if heading == "of which" else "right")
            for name, count, value in rows:
                table.add_row(name, count, f"{100 * value:.1f}")
            tables.append(table)
    return tables


def _nats(estimate: Json | None) -> str:
    return "–" if estimate is None else "{value:.4f} [{low:.4f}, {high:.4f}]".format(**estimate)
