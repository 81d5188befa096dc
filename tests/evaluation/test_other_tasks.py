"""Evaluation on other tasks than the run's own: rows prepared, graded and reported by the task they belong to."""

from pathlib import Path

import pytest

from unisd.failures import StageError
from unisd.files import read_json, read_jsonl
from unisd.prepared import load_examples

DATA = Path(__file__).parents[1] / "data"


def evaluation(**sources):
    given = [{"task": name, "path": str(path)} for name, path in sources.items()]
    return {"tasks": ["cos_e", *sources], "sources": given, "perplexity": False}


@pytest.mark.slow
def test_a_component_is_scored_on_every_task(make_run, carry_out):
    run, directory = make_run(
        6,
        eval_rows=3,
        components=[{"name": "raw", "preset": "raw"}],
        task={"maxEvalExamples": 4},
        evaluation=evaluation(humaneval=DATA / "humaneval", medmcqa=DATA / "medmcqa"),
    )
    carry_out(run, directory, "prepare", "evaluate", "report")
    report = read_json(directory.report / "report.json")
    assert {task: found["components"]["raw"]["metric"] for task, found in report["tasks"].items()} == {
        "cos_e": "accuracy",
        "humaneval": "pass@1",
        "medmcqa": "accuracy",
    }
    items = read_jsonl(directory.evaluate("raw-1") / "items-humaneval.jsonl")
    assert [item["id"].startswith("HumanEval/") for item in items] == [True] * 4
    groups = report["tasks"]["medmcqa"]["components"]["raw"]["groups"]["subject"]
    assert sum(found["rows"] for found in groups.values()) == 4
    examples = load_examples(directory.prepared.evaluation("medmcqa"))
    assert {example.groups["subject"] for example in examples} == set(groups)


def test_broken_rows_of_another_task_are_told_with_its_name(make_run, carry_out, tmp_path):
    run, directory = make_run(6, evaluation=evaluation(gpqa=tmp_path / "nothing"))
    with pytest.raises(StageError, match=r"spec.evaluation, task gpqa: .*nothing does not exist"):
        carry_out(run, directory, "prepare")
