"""Tool calls: found in odd ReAct text, compared as JSON, references right and corrupted ones wrong. Rows are made up."""

import json

import pytest

from unisd.config.task import Source, Task
from unisd.tasks import react
from unisd.tasks.catalog import task_for

PROMPT = """Your task is to answer the user's question using available tools.
You have access to the following tools:
Name: Library
Documentation:
findBook: Find a book.
Parameters: {"title": "string.", "page": "integer."}
Output: Successful response.
lendBook: Lend a book.
Parameters: {"id": "string."}
Output: Successful response.

Begin!
Question: """
FIND = {"Action": "findBook", "Action_Input": '{"title": "Emma", "page": 1}'}
LEND = {"Action": "lendBook", "Action_Input": '{"id": "b7", "note": ""}'}


def row(question="Find Emma and lend it", golden=(FIND, LEND), **fields):
    return {
        "prompt": PROMPT + question,
        "instruction": question,
        "name": "Library",
        "golden_answer": list(golden),
        **fields,
    }


def examples(tmp_path, *rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"_split": "test", **r}) + "\n" for r in rows), encoding="utf-8")
    task = task_for(Task(name="toolalpaca", source=Source(path=str(path))))
    return task, task.examples("eval")


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ('Action: f\nAction Input: {"a": 1}', [("f", {"a": 1})]),
        ('Thought: x\nAction: f\nAction Input:\n```json\n{"a": 1}\n```', [("f", {"a": 1})]),
        ('**Action:** `f`\n**Action Input:** {"a": {"b": [1, 2]}} done', [("f", {"a": {"b": [1, 2]}})]),
        ('action: f()\naction input: {"a": 1}', [("f", {"a": 1})]),
        ('Action: f Action Input: {"a": 1}', [("f", {"a": 1})]),
        ('Action 1: f\nAction Input 1: {"a": 1}\nAction 2: g\nAction Input 2: {}', [("f", {"a": 1}), ("g", {})]),
        ('Action: f\nAction Input: {\n "a": 1\n}\nObservation: ok\nAction: g\nAction Input: {}', [("f", {"a": 1}), ("g", {})]),
        ("Action: f", [("f", {})]),
        ("Action: f\nAction Input:", [("f", {})]),
        ("Action: f\nAction Input: {'a': 1}\nObservation: x", [("f", "{'a': 1}")]),
        ('Action: f\nAction Input: {"a": 1', [("f", '{"a": 1')]),
        ('Action: f\nAction Input: [1]', [("f", "[1]")]),
        ("Action: f\nAction Input: " + '{"a":' * 5000, [("f", '{"a":' * 5000)]),
        ("Action:\nAction Input: {}", []),
        ("I would call f.", []),
        ("", []),
    ],
)  # fmt: skip
def test_calls_are_found(text, calls):
    assert [(call.name, call.arguments) for call in react.calls_in(text)] == calls


@pytest.mark.parametrize(
    ("given", "wanted", "same"),
    [
        ('{"a": 1, "b": 2}', '{"b": 2, "a": 1}', True),
        ('{"a": 1}', '{"a": 1.0}', True),
        ('{"a": 1}', '{"a": "1"}', False),
        ('{"a": 1}', '{"a": true}', False),
        ('{"a": 0}', '{"a": false}', False),
        ('{"a": "x y"}', '{"a": " x  y"}', True),
        ('{"a": "X"}', '{"a": "x"}', False),
        ('{"a": [1, 2]}', '{"a": [2, 1]}', False),
        ('{"a": {"b": 1}}', '{"a": {"b": 2}}', False),
        ('{"a": 1, "b": ""}', '{"a": 1}', True),
        ('{"a": 1, "b": null}', '{"a": 1}', True),
        ('{"a": 1, "b": 2}', '{"a": 1}', False),
        ('{"a": 1}', '{"a": 1, "b": 2}', False),
        ('{"a": 0}', "{}", False),
        ("no json", "no  json", True),
        ("{}", "", True),
    ],
)
def test_arguments_are_compared_as_json(given, wanted, same):
    calls = [[react.Call("f", react.arguments_of(text))] for text in (given, wanted)]
    assert react.same_calls(*calls) == same
    assert (react.argument_share(*calls) == 1.0) == same


def test_references_are_right_and_corrupted_ones_wrong(tmp_path):
    broken = {"Action": "findBook", "Action_Input": '{"title": "x": [1]}'}
    task, found = examples(tmp_path, row(), row("One", [FIND]), row("No JSON", [broken]))
    grades = task.grade(found, [example.demonstration for example in found])
    assert all(grade.correct and set(grade.parts.values()) == {1.0} for grade in grades)
    for old, new in (("findBook", "lendBook"), ('"Emma"', '"Anna"'), ('"page": 1', '"page": 1, "x": 2')):
        wrong = [example.demonstration.replace(old, new) for example in found]
        changed = [a != b.demonstration for a, b in zip(wrong, found, strict=True)]
        assert [not grade.correct for grade in task.grade(found, wrong)] == changed


@pytest.mark.parametrize("name", ["_find", "find_", "find()", "[Optional]find()"])
def test_marks_around_a_references_tool_are_passed_over_as_in_completions(tmp_path, name):
    task, (example,) = examples(tmp_path, row("One", [{"Action": name, "Action_Input": "{}"}]))
    (grade,) = task.grade([example], [example.demonstration])
    assert grade.correct


def test_finer_figures(tmp_path):
    task, (example,) = examples(tmp_path, row())
    text = 'Action: findBook\nAction Input: {"title": "Emma", "page": 2}\nAction: lendBook\nAction Input: {"id": "b7"}'
    fewer, wrong = task.grade([example] * 2, ["Action: findBook\nAction Input: " + FIND["Action_Input"], text])
    assert (fewer.correct, fewer.found, dict(fewer.parts)) == (
        False,
        True,
        {"name_accuracy": 0.0, "argument_accuracy": 0.5},
    )
    assert (wrong.correct, dict(wrong.parts)) == (False, {"name_accuracy": 1.0, "argument_accuracy": 0.75})
    (more,) = task.grade([example], [f"{example.demonstration}\nAction: lendBook\nAction Input: {{}}"])
    assert (more.correct, dict(more.parts)) == (
        False,
        {"name_accuracy": 0.0, "argument_accuracy": pytest.approx(2 / 3)},
    )
    (nothing,) = task.grade([example], ["I cannot do that."])
    assert (nothing.correct, nothing.found, nothing.answer) == (False, False, None)


def test_optional_calls_may_be_left_out(tmp_path):
    task, (example,) = examples(tmp_path, row(golden=[FIND, {**LEND, "Action": "[Optional]lendBook"}]))
    assert "[Optional]" not in example.demonstration
    first = "\n".join(example.demonstration.splitlines()[:2])
    assert [grade.correct for grade in task.grade([example] * 2, [example.demonstration, first])] == [True, True]


def test_responses_with_thoughts_are_the_demonstration(tmp_path, caplog):
    text = f"Thought: I should find it.\nAction: findBook\nAction Input: {FIND['Action_Input']}"
    task, found = examples(
        tmp_path,
        row("a", [FIND], golden_response=["Thought: I should find it.", *text.splitlines()[1:]]),
        {**row("b"), "golden_answer": None, "golden_response": text},
        row("c", [LEND], golden_response=text),
    )
    assert [example.demonstration for example in found[:2]] == [text, text]
    assert found[2].demonstration.startswith("Action: lendBook")
    assert "rows.jsonl:3: 'golden_response' makes other calls than 'golden_answer'" in caplog.text
    assert all(grade.correct for grade in task.grade(found, [example.demonstration for example in found]))


def test_wrong_demonstrations_differ_in_one_call_alone(tmp_path):
    task, found = examples(tmp_path, *(row(f"Question {index}", [FIND, LEND]) for index in range(30)))
    tools = set()
    for example in found:
        request = task.negative_request(example)
        (wrong,) = task.negative_demonstrations([(example, request)], [' {"title": "Other"} and more'])
        assert request.prefix == f"Action: {request.answer}\nAction Input:"
        assert request.schema == {"type": "object"}
        before, after = example.demonstration.splitlines(), wrong.splitlines()
        assert len(before) == len(after)
        assert sum(a != b for a, b in zip(before, after, strict=True)) in (1, 2)
        assert not task.grade([example], [wrong])[0].correct
        tools.add(request.answer)
    assert tools == {"findBook", "lendBook"}


def test_texts_that_are_no_wrong_call(tmp_path):
    task, (example,) = examples(tmp_path, row("q", [FIND]).copy() | {"prompt": "one tool only"})
    request = task.negative_request(example)
    assert request.answer == "findBook"
    texts = [' {"title": "Emma", "page": 1}', " not json", "", '{"title": "Anna"}\nObservation: {}']
    found = task.negative_demonstrations([(example, request)] * 4, texts)
    assert found == [None, None, None, 'Action: findBook\nAction Input: {"title": "Anna"}']


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"golden_answer": [{"Action": "f"}]}, "field 'golden_answer' should be a list of objects with Action"),
        (
            {"golden_answer": [{"Action": " ", "Action_Input": "{}"}]},
            "field 'golden_answer' should be a list of objects",
        ),
        ({"golden_answer": "[not json"}, "field 'golden_answer' should be a list of objects with Action"),
        ({"golden_answer": []}, "neither 'golden_answer' nor 'golden_response' holds a tool call"),
        ({"golden_response": 3}, "field 'golden_response' should be str or list"),
    ],
)
def test_broken_rows(tmp_path, fields, message):
    with pytest.raises(ValueError, match=f"rows.jsonl:1: {message}"):
        examples(tmp_path, row(**fields))
