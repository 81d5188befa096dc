"""Own rows in every form and grading."""

import json

import pytest

from unisd.config.task import Source, Task
from unisd.tasks.catalog import task_for


def task(tmp_path, rows, **config):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"_split": "train", **row}) + "\n" for row in rows), encoding="utf-8")
    return task_for(Task(name="custom", source=Source(path=str(path)), **config))


def test_plain_and_conversational_rows_are_the_same(tmp_path):
    rows = [
        {"id": "a", "prompt": "Hi?", "completion": "Ho."},
        {
            "id": "b",
            "prompt": [{"role": "user", "content": "Hi?"}],
            "completion": [{"role": "assistant", "content": "Ho."}],
        },
    ]
    plain, chat = task(tmp_path, rows).examples("train")
    assert (plain.messages, plain.demonstration, plain.query) == (chat.messages, chat.demonstration, chat.query)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"completion": "x"}, "field 'prompt' is missing"),
        ({"prompt": "x"}, "field 'completion' is missing"),
        ({"prompt": " ", "completion": "x"}, "field 'prompt' is empty"),
        ({"prompt": "x", "completion": " "}, "field 'completion' is empty"),
        ({"prompt": [], "completion": "x"}, "should end with a user message"),
        ({"prompt": [{"role": "boss", "content": "x"}], "completion": "x"}, "a message needs a role"),
        ({"prompt": "x", "completion": [{"role": "user", "content": "x"}]}, "one assistant message"),
    ],
)
def test_broken_rows(tmp_path, row, message):
    with pytest.raises(ValueError, match=rf"rows.jsonl:1: .*{message}"):
        task(tmp_path, [row]).examples("train")


CHOICES = {"prompt": "x", "completion": "y", "answer": "A"}


@pytest.mark.parametrize(
    ("row", "grading", "message"),
    [
        ({"prompt": "x", "completion": "y", "tests": []}, "python", "'tests' should hold at least 1 texts"),
        ({"prompt": "x", "completion": "y", "tests": [1]}, "python", "'tests' should hold at least 1 texts, got .1."),
        ({"prompt": "x", "completion": "y", "tests": ["assert f("]}, "python", "'tests' is no Python"),
        ({"prompt": "x", "completion": "y", "answer": " "}, "exact", "'answer' is empty"),
        ({"prompt": "x", "completion": "y", "answer": ["y"]}, "exact", "'answer' should be str or int or float"),
        ({**CHOICES, "choices": ["a"]}, "multipleChoice", "'choices' should hold at least 2 texts"),
        ({**CHOICES, "choices": ["a", ""]}, "multipleChoice", "'choices' should hold at least 2 texts"),
        ({**CHOICES, "choices": [str(i) for i in range(27)]}, "multipleChoice", "at most 26 choices"),
        ({"prompt": "x", "completion": "y", "negative": 3}, "none", "'negative' should be a wrong completion"),
    ],
)
def test_rows_that_their_grading_cannot_use(tmp_path, row, grading, message):
    with pytest.raises(ValueError, match=rf"rows.jsonl:1: .*{message}"):
        task(tmp_path, [row], grading=grading).examples("train")


def test_rows_without_id_are_named_by_content_and_copies_are_numbered(tmp_path):
    rows = [{"prompt": "p", "completion": "c"}, {"prompt": "q", "completion": "c"}, {"prompt": "p", "completion": "c"}]
    first, other, copy = task(tmp_path, rows).examples("train")
    assert copy.id == f"{first.id}-2"
    assert other.id not in (first.id, copy.id)
    assert task(tmp_path, rows[::-1]).examples("train")[0].id == first.id
    assert task(tmp_path, [{**rows[0], "id": 0}]).examples("train")[0].id == "0"
    assert task(tmp_path, [{**rows[0], "id": ""}]).examples("train")[0].id != ""


def verdict(tmp_path, row, completion, **config):
    made = task(tmp_path, [row], **config)
    return made.grade(made.examples("train"), [completion])[0]


def test_exact(tmp_path):
    row = {"prompt": "p", "completion": "42"}
    assert verdict(tmp_path, row, " 42\n", grading="exact").correct
    assert not verdict(tmp_path, row, "42.4", grading="exact").correct
    assert verdict(tmp_path, {**row, "answer": 1000}, "1,000.0", grading="exact").correct
    assert not verdict(tmp_path, row, "", grading="exact").found


def test_regex_takes_the_last_match_and_compares_numbers(tmp_path):
    row = {"prompt": "p", "completion": "so it is\n#### 1,000"}
    config = {"grading": "regex", "pattern": "#### (.+)"}
    assert verdict(tmp_path, row, "#### 7\n#### 1000.0", **config).correct
    assert not verdict(tmp_path, row, "#### 7", **config).correct
    assert not verdict(tmp_path, row, "seven", **config).found
    assert verdict(tmp_path, row, "So:\n#### 1000\nDone.", grading="regex", pattern="^#### (.+)$").correct
    optional = {"grading": "regex", "pattern": "#### (.+)|none"}
    assert not verdict(tmp_path, row, "none", **optional).found
    with pytest.raises(ValueError, match="finds none in its completion"):
        task(tmp_path, [{"prompt": "p", "completion": "none"}], **config).examples("train")


def test_multiple_choice(tmp_path):
    row = {"id": "z", "prompt": "Which?", "completion": "Because.", "choices": ["x", "y", "z"], "answer": "y"}
    made = task(tmp_path, [row], grading="multipleChoice")
    (example,) = made.examples("train")
    assert example.choices[ord(example.answer) - 65] == "y"
    assert made.grade([example], [example.demonstration])[0].correct
    assert made.negative_request(example) is not None
    by_letter = task(tmp_path, [{**row, "answer": "B"}], grading="multipleChoice").examples("train")[0]
    assert by_letter == example
    with pytest.raises(ValueError, match="none of the choices"):
        task(tmp_path, [{**row, "answer": "q"}], grading="multipleChoice").examples("train")


def test_python(tmp_path):
    row = {"prompt": "Add one.", "completion": "def f(x):\n    return x + 1", "tests": ["assert f(1) == 2"]}
    assert verdict(tmp_path, row, "```python\ndef f(x): return 1 + x\n```", grading="python").correct
    assert not verdict(tmp_path, row, "def f(x): return x", grading="python").correct
    builtin = {"prompt": "p", "completion": "def sum(x):\n    return 7", "tests": ["assert sum([1]) == 7"]}
    assert verdict(tmp_path, builtin, "def sum(x): return 7", grading="python").correct
    assert not verdict(tmp_path, builtin, "pass", grading="python").correct


def test_a_rows_own_negative_is_kept(tmp_path):
    (example,) = task(tmp_path, [{"prompt": "p", "completion": "c", "negative": "no"}]).examples("train")
    assert example.negative == "no"
