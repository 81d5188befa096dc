"""MBPP rows: signatures by what the tests call, and references that pass where spoilt ones fail."""

import json
import os
from pathlib import Path

import pytest

from unisd.config.task import Source, Task
from unisd.tasks import code
from unisd.tasks.catalog import task_for

DATA = Path(os.environ.get("UNISD_DATA", Path(__file__).parents[2] / "examples/data")) / "mbpp"


@pytest.mark.parametrize("split", ["train", "eval"])
def test_references_pass_and_spoilt_ones_fail(split):
    task = task_for(Task(name="mbpp", source=Source(path=str(DATA))))
    examples = task.examples(split)[:20]
    assert len(examples) == 20
    assert all(grade.correct for grade in task.grade(examples, [e.demonstration for e in examples]))
    spoilt = [code.fenced(e.answer.replace("return", "return None and")) for e in examples]
    wrong = task.grade(examples, spoilt)
    assert sum(grade.correct for grade in wrong) <= 1  # a reference may return None itself
    assert not any(grade.correct for grade in task.grade(examples, ["I do not know."] * len(examples)))


def test_the_signature_is_of_the_function_that_tests_call(tmp_path):
    row = {
        "task_id": 1,
        "text": "Write it.",
        "code": "def helper(x):\r\n    return x\r\ndef main(a, b=1):\r\n    return helper(a) + b",
        "test_list": ["assert main(1) == 2"],
        "test_setup_code": "",
        "_split": "train",
    }
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    (example,) = task_for(Task(name="mbpp", subset="full", source=Source(path=str(path)))).examples("train")
    assert "Signature: def main(a, b=1):" in example.messages[0]["content"]
    assert "\r" not in example.demonstration
    path.write_text(json.dumps({**row, "code": "def other():\n    pass"}) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match="no function of the code is called by its tests"):
        task_for(Task(name="mbpp", source=Source(path=str(path)))).examples("train")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"test_imports": "import math"}, "field 'test_imports' should be list, got 'import math'"),
        ({"test_list": [1]}, r"field 'test_list' should hold texts, got \[1\]"),
        ({"test_list": []}, "field 'test_list' is empty"),
        ({"code": ""}, "field 'code' is empty"),
        ({"code": "def f(:"}, "code or tests are no Python"),
        ({"test_list": ["assert f(1) == \0"]}, "null bytes"),
    ],
)
def test_broken_rows(tmp_path, fields, told):
    row = {"task_id": 1, "prompt": "Write f.", "code": "def f(a):\n    return a", "test_list": ["assert f(1) == 1"]}
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({**row, **fields, "_split": "train"}) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=f"rows.jsonl:1: .*{told}"):
        task_for(Task(name="mbpp", source=Source(path=str(path)))).examples("train")


@pytest.mark.parametrize(
    ("completion", "program"),
    [
        ("```python\na = 1\n```", "a = 1"),
        ("```\na = 1\n```\n```python\na = 2\n```", "a = 2"),
        ("```python\na = 1\n```\nor\n```python\na = 2\n```", "a = 2"),
        ("```js\na\n```", "a"),
        ("a = 1", "a = 1"),
        ("```Python3.11\na = 1\n```", "a = 1"),
        ("Sure:\r\n```python\r\na = 1\r\n```", "a = 1\r"),
        ("```python\na = 1", "a = 1"),
        ("1. This:\n   ```python\n   if a:\n       b = 1\n   ```\n2. Done.", "if a:\n    b = 1"),
        ("  ```python\n  a = 1\n```", "a = 1"),
        ('```python\ndef f():\n    """\n    ```\n    """\n```', 'def f():\n    """\n    ```\n    """'),
        ("", None),
    ],
)
def test_programs_are_found(completion, program):
    assert code.extract(completion) == program


@pytest.mark.parametrize(
    ("shown", "program"),
    [
        (["def f(a): return 1", "def f(a): return 2", "print(f(1))"], "def f(a): return 2"),
        (["def f(a): return 1", "def g(a): return 2"], "def f(a): return 1"),
        (["f = abs", "print(f(1))"], "print(f(1))"),
    ],
)
def test_a_fence_that_shows_how_the_function_is_called_is_not_the_program(shown, program):
    assert code.extract("\nso\n".join(code.fenced(body) for body in shown), ["f"]) == program
