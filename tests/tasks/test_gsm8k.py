"""GSM8K: numbers found in the forms that models write, references right, others wrong."""

import dataclasses
import json
from pathlib import Path

import pytest

from unisd.config.task import Source, Task
from unisd.tasks import gsm8k
from unisd.tasks.catalog import task_for

DATA = Path(__file__).parents[1] / "data/gsm8k"


@pytest.fixture
def task():
    return task_for(Task(name="gsm8k", source=Source(path=str(DATA))))


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("So 3 + 4 = 7.\n#### 7", "7"),
        ("#### 7\nNo:\n#### 8", "8"),
        ("####1,234", "1234"),
        ("#### $1,234.50", "1234.50"),
        ("#### -5", "-5"),
        ("#### -$5", "-5"),
        ("**#### 72**", "72"),
        ("#### 72 clips", "72"),
        ("#### .5", ".5"),
        ("#### \\boxed{12}", "12"),
        ("#### $\\boxed{12}$ for 2 boys", "12"),
        ("#### \u22125", "-5"),
        ("#### 1/2", "1/2"),
        ("#### <<3+4=7>>7", "7"),
        ("The answer is 42.", "42"),
        ("Answer: 18 (20 - 2)", "18"),
        ("\\boxed{18}, found in 2 steps", "18"),
        ("The answer is: **$3**, not 4", "3"),
        ("First 10, then <<10+2=12>>12 apples.", "12"),
        ("I do not know.", None),
        ("", None),
        ("####", None),
    ],
)
def test_extraction(text, number):
    assert gsm8k.extract(text) == number


@pytest.mark.parametrize("split", ["train", "eval"])
def test_references_are_right_and_other_numbers_wrong(task, split):
    found = task.examples(split)
    assert len(found) == (40 if split == "train" else 20)
    assert all(grade.correct for grade in task.grade(found, [example.demonstration for example in found]))
    others = [f"#### {float(example.answer) + 0.5}" for example in found]
    assert not any(grade.correct for grade in task.grade(found, others))
    assert all("<<" not in example.demonstration for example in found)


def test_equal_numbers_are_one_answer(task):
    example = task.examples("train")[0]
    assert example.answer == "72"
    assert all(g.correct for g in task.grade([example] * 4, ["#### 72.0", "#### $72", "72.00", "#### 144/2"]))
    assert not task.grade([example], ["#### 72/100"])[0].correct


def test_wrong_solutions_end_in_the_assigned_number(task):
    for example in task.examples("train"):
        request = task.negative_request(example)
        assert request.prefix == f"The answer is {request.answer}, because"
        asked = [(example, request)] * 2
        wrong, none = task.negative_demonstrations(asked, [" 2 and 2 are 5.\nSo it is. #### 9", "\n####"])
        assert wrong == f"2 and 2 are 5.\nSo it is.\n#### {request.answer}"
        assert none is None
        assert not task.grade([example], [wrong])[0].correct


@pytest.mark.parametrize(
    ("gold", "wrong"), [("0", {"1", "10"}), ("5", {"6", "4", "15", "10", "2"}), ("-3", {"-2", "-4", "7", "-6", "-13"})]
)
def test_wrong_numbers_are_near_and_never_the_right_one(task, gold, wrong):
    example = dataclasses.replace(task.examples("train")[0], answer=gold)
    asked = [task.negative_request(dataclasses.replace(example, id=str(number))) for number in range(200)]
    assert {request.answer for request in asked} == wrong


def test_the_last_marked_number_of_a_row_is_its_answer(tmp_path):
    path = tmp_path / "rows.jsonl"
    row = {"question": "q", "answer": "First:\n#### 1\nNo:\n#### 2", "_split": "train"}
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    (example,) = task_for(Task(name="gsm8k", source=Source(path=str(path)))).examples("train")
    assert (example.answer, example.demonstration) == ("2", "First:\n#### 1\nNo:\n#### 2")


def test_a_row_without_its_last_line(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"question": "q", "answer": "seven", "_split": "train"}) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"rows.jsonl:1: field 'answer' has no last line '#### N': 'seven'"):
        task_for(Task(name="gsm8k", source=Source(path=str(path)))).examples("train")
