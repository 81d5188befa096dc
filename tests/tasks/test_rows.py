"""Broken rows are told by file, line and field."""

import json

import pytest

from unisd.config.task import Source, Task
from unisd.failures import StageError
from unisd.tasks.catalog import task_for
from unisd.tasks.rows import hub_dataset, load_rows, pinned, without_pictures
from unisd.tasks.types import HubDataset

GOOD = {
    "id": "1",
    "question": "q",
    "choices": ["x", "y"],
    "answer": "x",
    "abstractive_explanation": "e",
}


def load(path, text, **task):
    path.write_text(text, encoding="utf-8")
    return task_for(Task(name="cos_e", source=Source(path=str(path)), **task)).examples("train")


def lines(*rows):
    return "".join(json.dumps({"_split": "train", **row}) + "\n" for row in rows)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no rows"),
        ("{nonsense\n", r"rows.jsonl:1: is not JSON"),
        ("[1]\n", r"rows.jsonl:1: should be a JSON object"),
        (lines({**GOOD, "question": None}), r"rows.jsonl:1: field 'question' is missing"),
        (
            lines(GOOD, {k: v for k, v in {**GOOD, "id": "2"}.items() if k != "choices"}),
            r"rows.jsonl:2: field 'choices' is missing",
        ),
        (lines({**GOOD, "choices": "x"}), r"field 'choices' should be list, got 'x'"),
        (lines({**GOOD, "choices": ["x"]}), r"field 'choices' should hold 2 to 26 texts, got \['x'\]"),
        (lines({**GOOD, "choices": ["x", None]}), r"field 'choices' should hold 2 to 26 texts"),
        (lines({**GOOD, "question": " "}), r"rows.jsonl:1: field 'question' is empty"),
        ('{"question": "\\ud800"}\n', r"rows.jsonl:1: is not JSON \(.*surrogates not allowed"),
        ("[" * 100_000, r"rows.jsonl:1: is not JSON"),
        (lines({**GOOD, "answer": "z"}), r"field 'answer' is 'z', which is none of the choices \['x', 'y'\]"),
        (lines({**GOOD, "answerKey": "C"}), r"field 'answerKey' is 'C', which names none of 2 choices"),
        (lines({**GOOD, "_split": "dev"}), r"rows.jsonl: has no rows for the train split; its field '_split' says dev"),
        (lines(GOOD, GOOD), r"rows.jsonl:2: id '1' was used at .*rows.jsonl:1 already"),
    ],
)
def test_broken_rows(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "rows.jsonl", text)


def test_missing_file(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        load_rows(Source(path=str(tmp_path / "none")), None, "train", 0)
    with pytest.raises(ValueError, match=r"holds no train.jsonl"):
        load_rows(Source(path=str(tmp_path)), None, "train", 0)


def test_the_key_decides_between_two_options_of_one_text(tmp_path):
    row = {**GOOD, "choices": ["x", "x", "y"], "answerKey": "B"}
    (example,) = load(tmp_path / "rows.jsonl", lines(row))
    assert example.choices[ord(example.answer) - 65] == "x"


def test_a_sample_depends_on_the_tasks_seed_and_keeps_the_order_of_rows(tmp_path):
    text = lines(*({**GOOD, "id": str(number)} for number in range(60)))
    drawn = [load(tmp_path / "rows.jsonl", text, seed=seed, max_train_examples=20) for seed in (0, 1)]
    first, second = ([int(example.id) for example in found] for found in drawn)
    assert len(first) == len(second) == 20
    assert first == sorted(first)
    assert first != second


def test_a_single_file_without_splits_is_divided_the_same_way_each_time(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({**GOOD, "id": str(i)}) + "\n" for i in range(200)), encoding="utf-8")
    train, held_out = (load_rows(Source(path=str(path)), None, split, 0) for split in ("train", "eval"))
    assert len(train) + len(held_out) == 200
    assert 8 < len(held_out) < 35
    assert [r.where for r in held_out] == [r.where for r in load_rows(Source(path=str(path)), None, "eval", 0)]


def test_a_hub_that_cannot_be_reached_says_the_way_out():
    with pytest.raises(StageError, match=r"unisd-no/such cannot be loaded .* source.path"):
        load_rows(None, HubDataset("unisd-no/such", "test", revision="0" * 40), "train", 0)


def test_a_hub_dataset_is_read_by_the_real_loader(tmp_path, monkeypatch):
    """A folder in the hub's form takes the way of a hub id, network and revision aside."""
    from datasets import config

    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / "train.jsonl").write_text(lines(GOOD, {**GOOD, "id": "2"}), encoding="utf-8")
    hub = HubDataset(str(folder), "validation", revision="0" * 40)
    found = load_rows(None, hub, "train", 0)
    assert [row.values["id"] for row in found] == ["1", "2"]
    assert found[0].where == f"{folder}@{'0' * 40}/train:0"
    with pytest.raises(ValueError, match=r"has no split validation or test; it has \['train'\]"):
        load_rows(None, hub, "eval", 0)
    (folder / "validation.jsonl").write_text(lines({**GOOD, "id": "3"}), encoding="utf-8")
    (row,) = load_rows(None, hub, "eval", 0)
    assert (row.values["id"], row.where) == ("3", f"{folder}@{'0' * 40}/validation:0")


def test_a_tasks_own_dataset_keeps_its_configuration_under_another_commit():
    own = HubDataset("a/b", "validation", revision="old", config="v1")
    assert hub_dataset("a/b", "new", own) == HubDataset("a/b", "validation", revision="new", config="v1")
    assert hub_dataset("a/b", None, own) == own
    assert hub_dataset("c/d", None, own) == HubDataset("c/d", "test")


def test_a_task_is_pinned_to_the_commit_of_its_dataset(tmp_path):
    """So that training and evaluation rows are of one commit, and it can be told which."""
    own = HubDataset("a/b", "test", revision="a" * 40)
    assert pinned(Task(name="gsm8k"), own).source == Source(hub="a/b", revision="a" * 40)
    other = Task(name="gsm8k", source=Source(hub="c/d", revision="b" * 40), seed=3)
    assert pinned(other, own) == other
    local = Task(name="gsm8k", source=Source(path=str(tmp_path)))
    assert pinned(local, own) == local
    assert pinned(Task(name="custom"), None) == Task(name="custom")
    with pytest.raises((ValueError, StageError), match="unisd-no/such cannot be loaded"):
        pinned(Task(name="gsm8k", source=Source(hub="unisd-no/such", revision="main")), own)


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xff\xfe{}\n")
    with pytest.raises(ValueError, match=r"rows.jsonl:1: is not JSON"):
        load_rows(Source(path=str(path)), None, "train", 0)
    path.write_bytes(b"\xef\xbb\xbf" + lines({**GOOD, "_split": "train"}).encode())
    assert len(load_rows(Source(path=str(path)), None, "train", 0)) == 1


def test_images_of_hub_rows_are_not_decoded(tmp_path):
    """What an image library would refuse, or miss being there for, is no business of a text task."""
    import pyarrow as arrow
    from datasets import Dataset, DatasetInfo, Features, Image, Value
    from datasets.table import InMemoryTable

    kind = arrow.struct({"bytes": arrow.binary(), "path": arrow.string()})
    pictures = arrow.array([None, {"bytes": b"no picture", "path": None}], type=kind)
    table = InMemoryTable.from_pydict({"question": ["a", "b"], "image": pictures})
    features = Features({"question": Value("string"), "image": Image()})
    rows = [dict(row) for row in without_pictures(Dataset(table, DatasetInfo(features=features)))]
    assert [row["image"] is None for row in rows] == [True, False]
