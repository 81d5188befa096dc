"""The figures of the report, as Plotly draws them: curves of training, scores with intervals, cost."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from unisd.files import Json

# Okabe and Ito's palette: told apart by readers with any kind of colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#5E5E5E")
CURVES = {
    "loss": "Loss, nats",
    "divergence": "Divergence, nats",
    "agreement_weight": "Mean agreement weight",
    "entropy": "Entropy, nats",
    "truncated_share": "Share of truncated completions",
    "leak_share": "Share of completions that repeat instructions",
    "repetition": "Repetition within completions",
    "completion_tokens": "Completion length, tokens",
}
_PHASES = {"seconds_sample": "sample", "seconds_score": "score", "seconds_learn": "learn"}
_MODE_BAR = {"displaylogo": False, "displayModeBar": False, "responsive": True}


def colours(report: Json) -> dict[str, str]:
    """One colour per component, the same in every figure."""
    names = list(dict.fromkeys(arm["settings"]["component"] for arm in report["arms"].values()))
    return {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(names)}


def figures(report: Json) -> list[tuple[str, str]]:
    """Sections of (heading, html), every figure that the report has data for."""
    palette = colours(report)
    sections = []
    for task, results in report["tasks"].items():
        drawn = _scores(results["components"], palette)
        if drawn:
            sections.append((f"Scores on {task}", "".join(_html(figure) for figure in drawn)))
    wanted = [("curves", name, title) for name, title in CURVES.items()]
    wanted.append(("probes", "score", "Score on probe rows"))
    curves = [figure for what in wanted if (figure := _curve(report, what, palette))]
    if curves:
        sections.append(("Training", "".join(_html(figure) for figure in curves)))
    cost = _costs(report, palette)
    if cost:
        sections.append(("Cost", "".join(_html(figure) for figure in cost)))
    return sections


def _html(figure: go.Figure) -> str:
    drawn: str = figure.to_html(full_html=False, include_plotlyjs=False, config=_MODE_BAR)
    return f'<figure class="plot">{drawn}</figure>'


def _styled(figure: go.Figure, title: str, **axes: Any) -> go.Figure:
    figure.update_layout(
        title={"text": title, "font": {"size": 14}, "x": 0, "xref": "paper"},
        height=300,
        margin={"l": 52, "r": 14, "t": 44, "b": 44},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 12, "color": "#7a7f87"},
        legend={"orientation": "h", "y": -0.22, "x": 0},
        hovermode="x unified",
        **axes,
    )
    figure.update_xaxes(showgrid=False, zeroline=False, linecolor="rgba(128,128,128,.4)", automargin=True)
    figure.update_yaxes(gridcolor="rgba(128,128,128,.18)", zeroline=False, automargin=True)
    return figure


def _curve(report: Json, what: tuple[str, str, str], palette: dict[str, str]) -> go.Figure | None:
    """One figure over steps; `what` is where the rows stand, the name of the value in them, and the title."""
    rows, name, title = what
    figure = go.Figure()
    seeds: dict[str, int] = {}
    for arm in report["arms"].values():
        points = [(row["step"], row[name]) for row in arm[rows] if name in row]
        component = arm["settings"]["component"]
        if not points:
            continue
        seeds[component] = seeds.get(component, 0) + 1
        figure.add_scatter(
            x=[step for step, _ in points],
            y=[value for _, value in points],
            mode="lines+markers" if len(points) < 30 else "lines",
            name=component,
            legendgroup=component,
            showlegend=seeds[component] == 1,
            line={"color": palette[component], "width": 2},
            marker={"size": 4},
            opacity=1.0 if seeds[component] == 1 else 0.55,
        )
    return _styled(figure, title, xaxis={"title": "optimiser step"}) if figure.data else None


def _scores(components: dict[str, Json], palette: dict[str, str]) -> list[go.Figure]:
    panels = {
        "score": ("Score, %", 100.0),
        "found": ("Answers found, %", 100.0),
        "goldPerplexity": ("Gold perplexity", 1.0),
        "retentionPerplexity": ("Retention perplexity", 1.0),
        "divergence": ("Divergence to the base, nats", 1.0),
    }
    found = []
    for key, (title, scale) in panels.items():
        shown = {name: scores[key] for name, scores in components.items() if key in scores}
        if shown:
            found.append(_styled(_intervals(shown, scale, palette), title, showlegend=False))
    return found


def _intervals(estimates: dict[str, Json], scale: float, palette: dict[str, str]) -> go.Figure:
    figure = go.Figure()
    for name, estimate in estimates.items():
        value = scale * estimate["value"]
        figure.add_scatter(
            x=[name],
            y=[value],
            mode="markers",
            name=name,
            marker={"size": 11, "color": palette[name]},
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [scale * estimate["high"] - value],
                "arrayminus": [value - scale * estimate["low"]],
                "thickness": 2,
                "width": 6,
                "color": palette[name],
            },
        )
    figure.update_yaxes(rangemode="tozero")
    return figure


def _costs(report: Json, palette: dict[str, str]) -> list[go.Figure]:
    trained = {name: arm for name, arm in report["arms"].items() if arm["training"]}
    if not trained:
        return []
    time = go.Figure()
    for metric, label in _PHASES.items():
        time.add_bar(x=list(trained), y=[_total(arm["curves"], metric) for arm in trained.values()], name=label)
    rest = [
        _total(arm["curves"], "seconds") - sum(_total(arm["curves"], metric) for metric in _PHASES)
        for arm in trained.values()
    ]
    time.add_bar(x=list(trained), y=rest, name="other")
    time.update_layout(barmode="stack", colorway=["#56B4E9", "#0072B2", "#003F66", "#9aa3ad"])
    return [
        _styled(time, "Training time, seconds"),
        _bars(trained, [arm["training"]["tokensTrained"] for arm in trained.values()], "Student tokens", palette),
        _bars(trained, [arm["training"]["tokensScored"] for arm in trained.values()], "Teacher tokens", palette),
        _bars(trained, [arm["training"]["peakMemoryGiB"] for arm in trained.values()], "Peak memory, GiB", palette),
    ]


def _total(rows: Sequence[Json], name: str) -> float:
    return float(sum(row.get(name, 0.0) for row in rows))


def _bars(arms: dict[str, Json], values: Sequence[float], title: str, palette: dict[str, str]) -> go.Figure:
    marker = {"color": [palette[arm["settings"]["component"]] for arm in arms.values()]}
    figure = go.Figure(go.Bar(x=list(arms), y=list(values), marker=marker))
    return _styled(figure, title, showlegend=False)
