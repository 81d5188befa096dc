"""report.html: one file that needs no network. Generated text is data here: the template escapes all of it."""

from importlib.resources import files
from pathlib import PurePosixPath

import yaml
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from unisd.evaluation.plots import colours, figures
from unisd.rundir import Json


def render(report: Json) -> str:
    """The page of a report."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["share"] = _share
    environment.filters["number"] = _number
    environment.filters["yaml"] = lambda value: yaml.safe_dump(value, sort_keys=False)
    template = environment.from_string(files(__package__).joinpath("report.html.jinja").read_text(encoding="utf-8"))
    return template.render(
        report=report,
        model=PurePosixPath(report["model"]["source"]).name,
        colours=colours(report),
        sections=[(heading, Markup(html)) for heading, html in figures(report)],
        plotlyjs=Markup(get_plotlyjs()),
    )


def _share(estimate: Json) -> Markup:
    return Markup('{:.1f} <span class="ci">{:.1f} – {:.1f}</span>').format(
        *(100 * estimate[key] for key in ("value", "low", "high"))
    )


def _number(estimate: Json) -> Markup:
    return Markup('{:.2f} <span class="ci">{:.2f} – {:.2f}</span>').format(
        *(estimate[key] for key in ("value", "low", "high"))
    )
