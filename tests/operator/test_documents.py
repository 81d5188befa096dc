"""What the documents tell to type exists: commands, files, values, links, fields."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from tests.operator.charts.rendering import OPERATOR, one, render
from unisd.cli import _parser
from unisd.config.load import parse_cluster_run

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "images/README.md", *sorted((ROOT / "docs/operator").glob("*.md"))]
EVERY = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


def blocks(document, language=""):
    """Blocks of code in a language."""
    text = document.read_text(encoding="utf-8")
    return [body for named, body in re.findall(r"^```(\w*)\n(.*?)^```", text, re.M | re.S) if named == language]


def commands(document):
    """Lines to type, without their comments."""
    return [line.partition(" #")[0].strip() for body in blocks(document) for line in body.splitlines()]


@EVERY
def test_links_lead_somewhere(document):
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", text):
        assert "://" in target or (document.parent / target).exists(), target


@EVERY
def test_the_command_line_takes_what_is_typed(document):
    for line in commands(document):
        if line.startswith("unisd ") and "|" not in line:
            _parser().parse_args(shlex.split(line)[1:])


@EVERY
def test_files_that_are_typed_are_there(document):
    for line in commands(document):
        if line.startswith(("helm", "kubectl", "docker", "unisd")):
            for path in re.findall(r"(?:^|\s)((?:charts|examples|images|gitops)/[\w./-]+)", line):
                assert (ROOT / path).exists(), path


@pytest.mark.cluster  # needs Helm
@pytest.mark.parametrize("name", ["install.md", "install-gpu.md"])
def test_the_chart_takes_the_values_that_are_shown(name):
    shown = [yaml.safe_load(body) for body in blocks(ROOT / "docs/operator" / name, "yaml")]
    values = next(found for found in shown if "settings" in found)
    settings = yaml.safe_load(one(render(OPERATOR, values), "ConfigMap", "unisd-operator")["data"]["settings.yaml"])
    assert settings["storageClassName"] == values["settings"]["storageClassName"]
    assert settings["pod"]["tolerations"] == values["settings"]["pod"]["tolerations"]


def test_blocks_of_a_run_are_blocks_that_a_run_has():
    base = {"model": {"name": "org/m"}, "task": {"name": "gsm8k"}, "components": [{"name": "a", "preset": "sft"}]}
    found = blocks(ROOT / "docs/operator/results.md", "yaml")
    assert len(found) == 2
    for body in found:
        spec = {**base, **yaml.safe_load(body)}
        if spec["task"]["name"] == "custom":
            spec["task"]["grading"] = "exact"
        parse_cluster_run(
            {"apiVersion": "unisd.dev/v1alpha1", "kind": "SelfDistillRun", "metadata": {"name": "x"}, "spec": spec}
        )


def test_settings_that_are_named_are_values_of_the_chart():
    values = yaml.safe_load((OPERATOR / "values.yaml").read_text(encoding="utf-8"))
    for document in DOCUMENTS:
        for name in re.findall(r"`settings\.([\w.]+)", document.read_text(encoding="utf-8")):
            place = values["settings"]
            for part in name.rstrip(".").split("."):
                if place == {}:  # a free block, such as `pod`
                    break
                assert part in place, f"{document.name}: settings.{name}"
                place = place[part]


def test_alerts_that_are_named_are_alerts():
    rules = (OPERATOR / "files/rules.yaml").read_text(encoding="utf-8")
    named = {word for document in DOCUMENTS for word in re.findall(r"`(Unisd\w+)`", document.read_text("utf-8"))}
    assert named
    assert named <= set(re.findall(r"alert: (\w+)", rules))
