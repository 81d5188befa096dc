"""HumanEval rows: references pass, spoilt ones fail, helpers of the prompt are there for the tests."""

import json
from pathlib import Path

import pytest

from unisd.config.task import Source, Task
from unisd.tasks import code
from unisd.tasks.catalog import task_for

DATA = Path(__file__).parents[1] / "data/humaneval"


@pytest.fixture
def task():
    return task_for(Task(name="humaneval", source=Source(path=str(DATA))))


def test_references_pass_and_spoilt_ones_fail(task):
    found = task.examples("eval")
    assert len(found) == 11
    assert all(grade.correct for grade in task.grade(found, [example.demonstration for example in found]))
    spoilt = [code.fenced(example.answer.replace("return ", "return 'wrong' and 'wrong', ")) for example in found]
    assert not any(grade.correct for grade in task.grade(found, spoilt))


def test_helpers_of_the_prompt_need_not_be_repeated(task):
    """The tests of row 38 call a helper that the prompt gives; a completion with the one function asked for is whole."""
    example = next(example for example in task.examples("eval") if example.id == "HumanEval/38")
    assert "def encode_cyclic" in example.setup
    alone = example.answer[example.answer.index("def decode_cyclic") :]
    assert task.grade([example], [code.fenced(alone)])[0].correct


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("entry_point", "g", r"field 'entry_point' is 'g', but the code defines \['f'\]"),
        ("test", "", "field 'test' is empty"),
        ("test", "def check(", "field 'test' is no Python"),
        ("test", "assert True", r"field 'test' should define check\(candidate\), it defines \[\]"),
        ("task_id", " ", "field 'task_id' is empty"),
    ],
)
def test_broken_rows(tmp_path, field, value, message):
    test = "def check(candidate):\n    assert candidate() is None"
    row = {"task_id": "x", "prompt": "def f():\n", "canonical_solution": "    pass\n", "test": test, "entry_point": "f"}
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({**row, field: value}) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=f"rows.jsonl:1: {message}"):
        task_for(Task(name="humaneval", source=Source(path=str(path)))).examples("eval")
