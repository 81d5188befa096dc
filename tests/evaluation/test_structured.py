"""JSON forms: what a valid answer says is graded like the task's own text, anything else as without an answer."""

import json
from pathlib import Path

import pytest

from unisd.config.task import Source, Task
from unisd.evaluation.structured import FORMS, asked, read
from unisd.tasks.catalog import task_for

DATA = Path(__file__).parents[1] / "data"


def examples_of(name):
    task = task_for(Task(name=name, source=Source(path=str(DATA / name)), max_eval_examples=3))
    return task, task.examples("eval")


def reference(name, example):
    """The JSON answer that says what the reference says."""
    if name in ("mbpp", "humaneval"):
        return {"code": example.answer}
    if name == "toolalpaca":
        calls = [(call, arguments) for call, arguments in json.loads(example.answer) if not call.startswith("[")]
        return {"tool_calls": [{"Thought": "", "Action": a, "Action_Input": json.loads(b)} for a, b in calls]}
    return {"reasoning": "so it is", "answer": example.answer}


@pytest.mark.parametrize("name", [name for name in FORMS if (DATA / name).is_dir()])
def test_a_right_answer_as_json_is_right_and_a_broken_one_is_none(name):
    task, examples = examples_of(name)
    form = FORMS[name]
    answers = [json.dumps(reference(name, example)) for example in examples]
    grades = task.grade(examples, [read(f"Sure: {answer}", form) for answer in answers])
    assert [grade.correct for grade in grades] == [True] * len(examples)
    broken = task.grade(examples, [read(answer[:-2], form) for answer in answers])
    assert [(grade.correct, grade.found) for grade in broken] == [(False, False)] * len(examples)
    assert read('{"answer":' * 5000, form) == ""
    for example in examples:
        assert form.instruction in asked(example, form).messages[-1]["content"]
        assert set(form.schema(example)["required"]) == set(reference(name, example))


def test_control_characters_may_stand_in_texts():
    """As vLLM's grammars let them."""
    answer = '{"reasoning"\r:\t"so\n it\x04 is" ,"answer": "E" \n}'
    assert read(answer, FORMS["cos_e"]) == "Reasoning: so it\x04 is\nAnswer: E"


def test_the_schema_of_a_question_names_its_options():
    _, examples = examples_of("medmcqa")
    schema = FORMS["medmcqa"].schema(examples[0])
    assert schema["properties"]["answer"]["enum"] == ["A", "B", "C", "D"]
    text = asked(examples[0], FORMS["medmcqa"]).messages[-1]["content"]
    assert "Answer:" not in text
