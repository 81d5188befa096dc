"""A report's scores as one small SVG: a row a component, its figures with their 95 % intervals. For Markdown pages.

Called by `markdown`; the page of `html` has figures of its own. Text is data: it is escaped.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape

from unisd.files import Json

_ROW, _TOP, _NAMES, _PANEL, _GAP = 20, 40, 130, 250, 34
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#57606a}.axis{stroke:#8c959f;stroke-opacity:.5}"
    ".base{stroke:#8c959f;stroke-dasharray:3 3}.mark{fill:#0072b2;stroke:#0072b2;stroke-width:2}"
)


@dataclass(frozen=True)
class Panel:
    """One figure of every component."""

    key: str
    title: str
    scale: float


PANELS = (Panel("score", "score, %", 100.0), Panel("retentionPerplexity", "retention perplexity", 1.0))


def chart(components: Mapping[str, Json]) -> str:
    """The SVG of one task's components, or an empty text where there is nothing to draw."""
    panels = [panel for panel in PANELS if all(panel.key in scores for scores in components.values())]
    if not panels or not components:
        return ""
    width = _NAMES + len(panels) * (_PANEL + _GAP)
    height = _TOP + _ROW * len(components) + 12
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        f"<style>{_STYLE}</style>",
    ]
    for row, name in enumerate(components):
        lines.append(f'<text x="{_NAMES - 10}" y="{_y(row) + 4}" text-anchor="end">{escape(name)}</text>')
    for index, panel in enumerate(panels):
        lines += _panel(panel, components, _NAMES + index * (_PANEL + _GAP))
    return "\n".join([*lines, "</svg>\n"])


def _y(row: int) -> int:
    return _TOP + _ROW * row + _ROW // 2


def _panel(panel: Panel, components: Mapping[str, Json], left: int) -> Iterator[str]:
    """Title, ends of the axis, a line at the first component's figure, and a mark with its interval for each."""
    found = [scores[panel.key] for scores in components.values()]
    low = min(0.0, *(panel.scale * estimate["low"] for estimate in found))
    high = max(panel.scale * estimate["high"] for estimate in found) or 1.0

    def x(value: float) -> str:
        return f"{left + _PANEL * (panel.scale * value - low) / (high - low):.1f}"

    bottom = _TOP + _ROW * len(found)
    yield f'<text x="{left}" y="14">{panel.title}</text>'
    for value, anchor in ((low, "start"), (high, "end")):
        at = x(value / panel.scale)
        yield f'<line class="axis" x1="{at}" y1="{_TOP - 6}" x2="{at}" y2="{bottom}"/>'
        yield f'<text x="{at}" y="{_TOP - 10}" text-anchor="{anchor}">{value:.3g}</text>'
    first = x(found[0]["value"])
    yield f'<line class="base" x1="{first}" y1="{_TOP - 6}" x2="{first}" y2="{bottom}"/>'
    for row, estimate in enumerate(found):
        ends = f'x1="{x(estimate["low"])}" x2="{x(estimate["high"])}"'
        yield f'<line class="mark" {ends} y1="{_y(row)}" y2="{_y(row)}"/>'
        yield f'<circle class="mark" cx="{x(estimate["value"])}" cy="{_y(row)}" r="3"/>'
