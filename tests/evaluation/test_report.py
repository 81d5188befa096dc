"""The report: what it says, that it is safe, and that a real browser draws it without a word."""

import io
import json
import math
import os
import re
import shutil
import subprocess

import pytest
from rich.console import Console

from unisd.evaluation.html import MOST_VALUES, breakdowns, render
from unisd.evaluation.plots import figures
from unisd.evaluation.summary import summary_table

EVIL = "</script><script>window.stolen = 1</script><img src=x onerror=alert(1)> {{ 7 * 7 }}"


def estimate(value, spread):
    return {
        "value": value,
        "low": max(0.0, value - spread),
        "high": value + spread,
        "items": 100,
        "seed_deviation": None,
    }


def arm(component, trained=True):
    steps = range(1, 41)
    curves = [
        {
            "step": step,
            "loss": 0.4 + 2 * math.exp(-step / 12) + 0.05 * math.sin(step),
            "divergence": 0.3 + math.exp(-step / 15),
            "agreement_weight": 0.95 - 0.2 * math.exp(-step / 20),
            "entropy": 1.5 + 0.2 * math.cos(step / 5),
            "truncated_share": 0.3 * math.exp(-step / 10),
            "leak_share": 0.0,
            "repetition": 0.1,
            "completion_tokens": 30 + 10 * math.exp(-step / 9),
            "seconds": 10.0,
            "seconds_sample": 4.0,
            "seconds_score": 3.5,
            "seconds_learn": 2.0,
        }
        for step in steps
    ]
    training = {
        "steps": 40,
        "exportedStep": 30,
        "checkpoint": "best",
        "seconds": 400.0,
        "counters": {"skipped_steps": 2, "non_finite_steps": 1},
        "tokensTrained": 40000.0,
        "tokensScored": 160000.0,
        "peakMemoryGiB": 3.4,
        "shares": {"clip": 0.004, "ema": 0.31},
        "warnings": ["clip is on and hardly acts"],
    }
    return {
        "settings": {"component": component, "seed": 1, "objective": {"temperature": 0.7}},
        "training": training if trained else None,
        "curves": curves if trained else [],
        "probes": [{"step": step, "score": step / 80, "found": 0.5} for step in (10, 20, 30)] if trained else [],
        "stageSeconds": {"train": 120.0, "evaluate": 40.0},
    }


def group(rows, score):
    return {"rows": rows, "score": score, "found": 1.0}


@pytest.fixture
def report():
    def scores(score, found, gold, kept, method="unisd"):
        return {
            "metric": "accuracy",
            "seeds": 1,
            "method": method,
            "score": estimate(score, 0.07),
            "found": estimate(found, 0.06),
            "finished": estimate(0.9, 0.05),
            "goldPerplexity": estimate(gold, 2.0),
            "retentionPerplexity": estimate(kept, 0.5),
            "parts": {"name_accuracy": 0.61, "argument_accuracy": found / 2},
            "groups": {"subject": {"physics": group(70, score), EVIL: group(30, 0.125)}},
            "samples": [{"id": "row", "completion": EVIL, "correct": False, "found": False, "expected": "B"}],
        }

    return {
        "unisd": "0.1.0",
        "run": "quickstart",
        "model": {"source": "models/SmolLM2-135M-Instruct.gguf", "path": "p", "digest": "d"},
        "task": {"name": "cos_e"},
        "rows": {
            "train": {"rows": 80, "dropped": []},
            "probe": {"rows": 0, "dropped": 0},
            "evaluation": {"cos_e": {"rows": 100, "dropped": 7}},
        },
        "tasks": {
            "cos_e": {
                "components": {
                    "raw": scores(0.07, 0.3, 36.0, 1.6, "raw"),
                    "sft": scores(0.23, 1.0, 9.4, 8.2, "sft"),
                    "star": scores(0.14, 0.72, 13.8, 4.1),
                },
                "comparisons": [
                    {
                        "component": name,
                        "against": "raw",
                        "value": 0.1,
                        "low": 0.02,
                        "high": 0.2,
                        "p": 0.01,
                        "p_holm": 0.02,
                        "differs": True,
                    }
                    for name in ("sft", "star")
                ],
            }
        },
        "arms": {"raw-1": arm("raw", trained=False), "sft-1": arm("sft"), "star-1": arm("star")},
        "failures": {"clip-1": {"stage": "train/clip-1", "reason": "NonFinite", "message": "no", "logTail": EVIL}},
    }


def test_generated_text_is_data(report):
    page = render(report)
    body = page[page.index("<body>") :]
    assert EVIL not in page
    assert "<img src=x" not in body
    assert "{{ 7 * 7 }}" in body
    assert "&lt;/script&gt;" in body


def test_it_says_what_the_results_say(report):
    page = render(report)
    assert "clip-1 failed in train/clip-1: NonFinite" in page
    assert '14.0 <span class="ci">7.0 – 21.0</span>' in page
    assert "clip is on and hardly acts" in page
    assert "step 30, best by probe" in page
    assert "<th>clip, %</th><th>ema, %</th>" in page
    assert "<td>0.4</td><td>31.0</td>" in page
    assert "2 empty, 1 not finite" in page
    assert "7 rows were too long and left out" in page
    report["tasks"]["cos_e"]["components"]["star"]["score"]["seed_deviation"] = 0.021
    assert '14.0 <span class="ci">7.0 – 21.0, σ 2.1</span>' in render(report)
    headings = [heading for heading, _ in figures(report)]
    assert headings == ["Scores on cos_e", "Training", "Cost"]


def test_nothing_trained_yet_still_makes_a_page(report):
    report["arms"] = {"raw-1": arm("raw", trained=False)}
    report["tasks"] = {}
    assert "<h1>quickstart</h1>" in render(report)


def test_the_terminal_table(report):
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(summary_table(report, console.width))
    told = console.export_text()
    assert re.search(r"star\s+14.0 \[7.0, 21.0\]\s+72.0 \[66.0, 78.0\]\s+13.8 \[11.8, 15.8\]\s+4.10", told)
    assert "+10.0 * [+2.0, +20.0]" in told
    assert "failed: NonFinite" in told
    assert "too long and left out: 0 training and 7 evaluation rows" in told


def test_the_terminal_table_fits_eighty_columns(report):
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(summary_table(report, console.width))
    lines = console.export_text().splitlines()
    (star,) = [index for index, line in enumerate(lines) if line.startswith("star")]
    assert lines[star].split() == ["star", "14.0", "72.0", "13.8", "4.10", "+10.0", "*", "2.7"]
    assert "[7.0, 21.0] [66.0, 78.0] [11.8, 15.8] [3.60, 4.60]" in " ".join(lines[star + 1].split()).replace("  ", " ")


@pytest.mark.browser
def test_a_browser_draws_every_plot_and_says_nothing(report, tmp_path):
    browser = shutil.which("chromium")
    if browser is None:
        assert os.environ.get("CI") != "true", "CI needs chromium"
        pytest.skip("chromium is not installed")
    probe = """<script>addEventListener("load", () => setTimeout(() => {
      const plots = [...document.querySelectorAll(".js-plotly-plot")];
      const drawn = plots.filter(p => p.querySelectorAll(".trace, .points path, .barlayer path").length > 0);
      document.title = JSON.stringify({plots: plots.length, drawn: drawn.length, stolen: window.stolen || 0,
        wide: document.documentElement.scrollWidth > innerWidth,
        spilt: plots.filter(p => p.querySelector(".main-svg").clientWidth > p.parentElement.parentElement.clientWidth).length,
        outside: performance.getEntriesByType("resource").filter(r => !r.name.startsWith("data:")).map(r => r.name)});
    }, 500))</script>"""
    page = tmp_path / "report.html"
    page.write_text(render(report).replace("</body>", f"{probe}</body>"), encoding="utf-8")
    for size in ("1280,2400", "500,2400"):
        done = subprocess.run(
            [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
             "--disable-background-networking", "--disable-component-update", f"--user-data-dir={tmp_path / size}",
             "--enable-logging=stderr", "--v=0", "--virtual-time-budget=20000", f"--window-size={size}", "--dump-dom", f"file://{page}"],
            capture_output=True, text=True, check=True, timeout=600,
        )  # fmt: skip
        told = json.loads(re.search(r"<title>(.*?)</title>", done.stdout).group(1).replace("&quot;", '"'))
        assert told == {"plots": 17, "drawn": 17, "stolen": 0, "wide": False, "spilt": 0, "outside": []}
        assert "CONSOLE" not in done.stderr, done.stderr[-2000:]


def test_finer_figures_and_breakdowns_stand_in_the_page(report):
    page = render(report)
    for told in ("name accuracy, %", "61.0", "Scores on cos_e by subject", "<td>physics</td><td>70</td><td>7.0</td>"):
        assert told in page
    del report["tasks"]["cos_e"]["components"]["raw"]["groups"]
    for scores in report["tasks"]["cos_e"]["components"].values():
        scores["parts"] = {}
    page = render(report)
    assert "name accuracy" not in page
    assert "<td>physics</td><td>70</td><td>–</td><td>23.0</td>" in page


def test_figures_on_request_stand_in_the_page(report):
    assert "JSD to base" not in render(report)
    star = report["tasks"]["cos_e"]["components"]["star"]
    star |= {"divergence": estimate(0.05, 0.01), "passAt": {"5": estimate(0.5, 0.1)}}
    page = render(report)
    for told in (
        "<th>JSD to base</th><th>pass@5, %</th>",
        "<td>0.0500 [0.0400, 0.0600]</td><td>50.0 [40.0, 60.0]</td>",
    ):
        assert told in page


def test_breakdowns_show_the_largest_groups_of_every_component():
    many = {f"topic {number:02}": group(100 - number, 0.5) for number in range(MOST_VALUES + 3)}
    results = {
        "components": {"a": {"groups": {"topic": many}}, "b": {"groups": {"topic": {"topic 01": group(99, 0.25)}}}}
    }
    (table,) = breakdowns(results)
    assert (table["kind"], len(table["values"]), table["more"]) == ("topic", MOST_VALUES, 3)
    assert table["values"][0] == {"name": "topic 00", "rows": 100, "scores": [0.5, None]}
    assert table["values"][1]["scores"] == [0.5, 0.25]
    assert breakdowns({"components": {"a": {}}}) == []
