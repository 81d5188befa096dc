"""ScienceQA, MedMCQA and GPQA: how their rows read as questions, and every option graded."""

import json
from pathlib import Path

import pytest

from unisd.config.task import Source, Task
from unisd.tasks import multiple_choice as mc
from unisd.tasks.catalog import task_for

DATA = Path(__file__).parents[1] / "data"
SCIENCE = {
    "question": "What melts?",
    "choices": ["stone", "ice"],
    "answer": 1,
    "hint": "It is a warm day.",
    "lecture": "Solids melt when they are heated.",
    "solution": "Ice melts above 0 °C.",
    "subject": "natural science",
    "topic": "physics",
    "image": None,
}
MEDICAL = {"id": "m1", "question": "Which vitamin?", "opa": "A", "opb": "B", "opc": "C", "opd": "D", "cop": 2}
GPQA = {
    "Record ID": "rec1",
    "Question": "Made up: which is it?\n",
    "Correct Answer": "this\n",
    "Incorrect Answer 1": "that",
    "Incorrect Answer 2": "the other",
    "Incorrect Answer 3": "none",
    "Explanation": "It is this.",
    "High-level domain": "Physics",
    "Subdomain": "Optics",
}


def examples(tmp_path, name, *rows, split="train"):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"_split": split, **row}) + "\n" for row in rows), encoding="utf-8")
    task = task_for(Task(name=name, source=Source(path=str(path))))
    return task, task.examples("train" if split == "train" else "eval")


def assert_only_the_right_option_is_right(task, found):
    for example in found:
        assert task.grade([example], [example.demonstration])[0].correct
        right = example.choices[mc.LETTERS.index(example.answer)]
        for index, choice in enumerate(example.choices):
            grade = task.grade([example], [mc.demonstration("So it is.", mc.LETTERS[index])])[0]
            assert grade.found
            assert grade.correct == (choice == right)


def test_scienceqa_shows_lecture_and_hint_and_leaves_images_out(tmp_path, caplog):
    pictured = {**SCIENCE, "question": "What is shown?", "image": {"path": "image.png"}}
    task, found = examples(tmp_path, "scienceqa", SCIENCE, pictured, {**SCIENCE, "question": "Plain?", "hint": ""})
    assert len(found) == 2
    assert "scienceqa: 1 of 3 rows are left out: each shows an image" in caplog.text
    prompt = found[0].messages[0]["content"]
    assert prompt.startswith("Context: Solids melt when they are heated.\nIt is a warm day.\nQuestion: What melts?")
    assert found[0].groups == {"subject": "natural science", "topic": "physics"}
    assert found[0].query == "What melts?"
    assert_only_the_right_option_is_right(task, found)
    with pytest.raises(ValueError, match="every one of 1 rows shows an image; none is left"):
        examples(tmp_path, "scienceqa", pictured)


def test_scienceqa_rows_without_ids_get_stable_ones(tmp_path):
    other = {**SCIENCE, "question": "Other?"}
    _, found = examples(tmp_path, "scienceqa", SCIENCE, other, SCIENCE)
    _, again = examples(tmp_path, "scienceqa", other, SCIENCE)
    assert len({example.id for example in found}) == 3
    assert {example.id for example in again} < {example.id for example in found}


@pytest.mark.parametrize("split", ["train", "eval"])
def test_medmcqa_rows_that_count_from_one(split):
    task = task_for(Task(name="medmcqa", source=Source(path=str(DATA / "medmcqa"))))
    found = task.examples(split)
    raw = {
        row["id"]: row
        for path in (DATA / "medmcqa").glob("*.jsonl")
        for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())
    }
    for example in found:
        row = raw[example.id]
        assert example.choices[mc.LETTERS.index(example.answer)] == row["op" + "_abcd"[row["cop"]]]
        assert not example.demonstration.startswith(("Reasoning: Ans", "Reasoning: ans"))
    assert_only_the_right_option_is_right(task, found)


def test_medmcqa_rows_that_count_from_zero(tmp_path, caplog):
    hidden = {**MEDICAL, "id": "m3", "cop": -1}
    task, found = examples(tmp_path, "medmcqa", MEDICAL, {**MEDICAL, "id": "m2", "cop": 0}, hidden)
    assert [example.choices[mc.LETTERS.index(example.answer)] for example in found] == ["C", "A"]
    assert "1 of 3 rows are left out: each has a hidden answer" in caplog.text
    assert_only_the_right_option_is_right(task, found)
    with pytest.raises(ValueError, match="field 'cop' is 0 in some rows and 4 in others"):
        examples(tmp_path, "medmcqa", {**MEDICAL, "cop": 0}, {**MEDICAL, "id": "m2", "cop": 4})


def test_medmcqa_says_what_it_takes_numbers_for(tmp_path, caplog):
    _, (example,) = examples(tmp_path, "medmcqa", MEDICAL)
    assert example.choices[mc.LETTERS.index(example.answer)] == "C"
    assert "field 'cop' is neither 0 nor 4 in any row; it is taken to count from 0" in caplog.text


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Ans: C. Little finger", "Little finger"),
        ("Answer- B (aPTT)The", "(aPTT)The"),
        ("Ans.a Acute porphyria", "Acute porphyria"),
        ("Ans. In this case", "Ans. In this case"),
        ("Answers differ", "Answers differ"),
        ("A dose", "A dose"),
    ],
)
def test_medmcqa_explanations_do_not_name_the_published_letter(tmp_path, text, kept):
    _, (example,) = examples(tmp_path, "medmcqa", {**MEDICAL, "cop": 0, "exp": text})
    assert example.demonstration == mc.demonstration(kept, example.answer)


def test_gpqa_is_for_evaluation(tmp_path):
    path = tmp_path / "gpqa.jsonl"
    path.write_text("".join(json.dumps({**GPQA, "Record ID": f"r{i}"}) + "\n" for i in range(12)), encoding="utf-8")
    task = task_for(Task(name="gpqa", source=Source(path=str(path))))
    found = task.examples("eval")
    assert len(found) == 12
    assert found[0].groups == {"domain": "Physics", "subdomain": "Optics"}
    assert "this\n" not in found[0].choices
    assert len({example.answer for example in found}) > 1
    assert_only_the_right_option_is_right(task, found)


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("scienceqa", {**SCIENCE, "answer": 2}, "field 'answer' is 2, which names none of 2 choices counted from 0"),
        ("scienceqa", {**SCIENCE, "answer": "ice"}, "field 'answer' should be int, got 'ice'"),
        ("scienceqa", {**SCIENCE, "answer": True}, "field 'answer' is True, which names none of 2 choices"),
        ("medmcqa", {**MEDICAL, "cop": [1]}, "field 'cop' should be int"),
        ("scienceqa", {**SCIENCE, "hint": 3}, "field 'hint' should be str, got 3"),
        ("medmcqa", {**MEDICAL, "cop": 7}, "field 'cop' is 7, which names none of 4 choices"),
        ("medmcqa", {**MEDICAL, "opd": None}, "field 'opd' is missing"),
        ("medmcqa", {**MEDICAL, "id": ""}, "field 'id' is empty"),
        ("gpqa", {**GPQA, "Correct Answer": None}, "field 'Correct Answer' is missing"),
    ],
)
def test_broken_rows(tmp_path, name, row, message):
    with pytest.raises(ValueError, match=f"rows.jsonl:1: {message}"):
        examples(tmp_path, name, row, split="test")
