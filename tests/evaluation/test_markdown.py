"""The Markdown page and its chart, of a report made by hand."""

from copy import deepcopy
from xml.etree import ElementTree

from unisd.evaluation.chart import PANELS, chart
from unisd.evaluation.markdown import charts, markdown


def estimate(value, low, high, deviation=None):
    return {"value": value, "low": low, "high": high, "items": 4, "seed_deviation": deviation}


def scores(value, retention):
    return {
        "score": estimate(value, value - 0.1, value + 0.1, 0.02),
        "found": estimate(1.0, 0.9, 1.0),
        "goldPerplexity": estimate(20.0, 18.0, 22.0),
        "retentionPerplexity": estimate(retention, retention - 1, retention + 1),
        "items": [{}] * 4,
    }


def arm(component, seed, training):
    return {"settings": {"component": component, "seed": seed}, "training": training}


def training(seconds, scored, warnings=()):
    counts = {"tokensTrained": 10.0, "tokensScored": scored, "peakMemoryGiB": seconds / 10, "warnings": list(warnings)}
    return {"steps": 12, "seconds": seconds, **counts}


COMPARED = {"value": 0.3, "low": 0.1, "high": 0.5, "p": 0.01, "p_holm": 0.03, "differs": True}
REPORT = {
    "unisd": "1",
    "run": "study",
    "model": {"source": "models/small"},
    "rows": {"train": {"rows": 96}},
    "tasks": {
        "cos_e": {
            "components": {"raw": scores(0.2, 2.0), "star": scores(0.5, 4.0)},
            "comparisons": [{"component": "star", "against": "raw", **COMPARED}],
        }
    },
    "arms": {
        "raw-1": arm("raw", 1, None),
        "star-1": arm("star", 1, training(10.0, 100.0)),
        "star-2": arm("star", 2, training(20.0, 300.0, ["ema is on and its share is 0.001"])),
    },
    "failures": {"clip-1": {"reason": "NonFinite", "message": "as told"}},
}


def test_a_row_a_component_with_its_difference_and_its_cost():
    page = markdown(REPORT)
    assert "Model small, 96 training rows, 2 seeds, at most 12 optimiser steps" in page
    assert "## cos_e, 4 rows" in page
    row = next(line for line in page.splitlines() if line.startswith("| star | 50.0"))
    assert "50.0 [40.0, 60.0] | 2.0 |" in row
    assert r"+30.0 \* [+10.0, +50.0] | 0.030 |" in row
    assert "| star | 15 | 10 | 200 | 2.0 | ema |" in page
    assert "**clip-1 failed**: NonFinite, as told" in page
    assert "(scores-cos_e.svg)" in page


def test_figures_on_request_have_columns_where_a_run_has_them():
    measured = deepcopy(REPORT)
    star = measured["tasks"]["cos_e"]["components"]["star"]
    star |= {
        "divergence": estimate(0.0412, 0.03, 0.05),
        "passAt": {"1": estimate(0.5, 0.4, 0.6), "5": estimate(1, 1, 1)},
    }
    page = markdown(measured)
    assert "| retention ppl | JSD to base | pass@1, % | pass@5, % | against first |" in page
    assert "| 0.0412 [0.0300, 0.0500] | 50.0 [40.0, 60.0] | 100 [100, 100] | " in page
    assert "| – | – | – |  |  |" in page, "raw was not measured"
    assert "JSD" not in markdown(REPORT)


def test_every_line_of_a_table_has_as_many_cells():
    cells = [line.replace(r"\|", "").count("|") for line in markdown(REPORT).splitlines() if line.startswith("|")]
    assert cells == [9] * 4 + [7] * 3


def test_a_mark_a_figure_at_its_place():
    drawn = ElementTree.fromstring(charts(REPORT)["scores-cos_e.svg"])
    circles = [element for element in drawn.iter() if element.tag.endswith("circle")]
    assert len(circles) == 2 * len(PANELS)
    raw, star = (float(circle.get("cx")) for circle in circles[:2])
    lines = [e for e in drawn.iter() if e.tag.endswith("line") and e.get("class") == "mark"]
    assert raw < star
    assert float(lines[1].get("x1")) < star < float(lines[1].get("x2"))


def test_what_is_not_graded_has_no_panel_and_names_are_text():
    plain = {"<a>": {"retentionPerplexity": estimate(2.0, 1.0, 3.0)}}
    drawn = ElementTree.fromstring(chart(plain))
    assert next(e.text for e in drawn.iter() if e.tag.endswith("text")) == "<a>"
    assert chart({"a": {"finished": estimate(1.0, 1.0, 1.0)}}) == ""
    assert chart({}) == ""
