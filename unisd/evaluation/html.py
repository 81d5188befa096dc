"""report.html: one file that needs no network. Generated text is data here: the template escapes all of it."""

from importlib.resources import files
from pathlib import PurePosixPath

import yaml
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from unisd.evaluation.plots import colours, figures
from unisd.evaluation.summary import further
from unisd.files import Json

MOST_VALUES = 20
"""Values of a kind that the page shows; report.json holds all."""


def render(report: Json) -> str:
    """The page of a report."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["share"] = _share
    environment.filters["number"] = _number
    environment.filters["yaml"] = lambda value: yaml.safe_dump(value, sort_keys=False)
    template = environment.from_string(files(__package__).joinpath("report.html.jinja").read_text(encoding="utf-8"))
    trained = [(name, arm) for name, arm in report["arms"].items() if arm["training"]]
    return template.render(
        report=report,
        model=PurePosixPath(report["model"]["source"]).name,
        colours=colours(report),
        trained=trained,
        breakdowns={task: breakdowns(results) for task, results in report["tasks"].items()},
        besides={task: further(results["components"]) for task, results in report["tasks"].items()},
        mechanisms=sorted({mechanism for _, arm in trained for mechanism in arm["training"]["shares"]}),
        sections=[(heading, Markup(html)) for heading, html in figures(report)],
        plotlyjs=Markup(get_plotlyjs()),
    )


def breakdowns(results: Json) -> list[Json]:
    """Tables of one task's scores by what rows are about: kind, its values by their number of rows, and how many more.

    Each value has its rows and, for each component in order, its score or None.
    """
    groups = {name: scores.get("groups", {}) for name, scores in results["components"].items()}
    tables = []
    for kind in dict.fromkeys(kind for found in groups.values() for kind in found):
        rows = {value: each["rows"] for found in groups.values() for value, each in found.get(kind, {}).items()}
        ranked = sorted(rows, key=lambda value: (-rows[value], value))
        values = [
            {
                "name": value,
                "rows": rows[value],
                "scores": [found.get(kind, {}).get(value, {}).get("score") for found in groups.values()],
            }
            for value in ranked[:MOST_VALUES]
        ]
        tables.append({"kind": kind, "values": values, "more": max(0, len(ranked) - MOST_VALUES)})
    return tables


def _share(estimate: Json) -> Markup:
    return _shown(estimate, 100.0, 1)


def _number(estimate: Json) -> Markup:
    return _shown(estimate, 1.0, 2)


def _shown(estimate: Json, scale: float, digits: int) -> Markup:
    """A figure with its interval and, with several seeds, the deviation between them."""
    value, low, high = (f"{scale * estimate[key]:.{digits}f}" for key in ("value", "low", "high"))
    deviation = estimate["seed_deviation"]
    seeds = "" if deviation is None else f", σ {scale * deviation:.{digits}f}"
    return Markup('{} <span class="ci">{} – {}{}</span>').format(value, low, high, seeds)
