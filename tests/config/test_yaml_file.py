"""Words without quotes are what kubectl takes them for; what is no YAML is told, whatever it is."""

import math

import pytest

from unisd.config.base import ConfigError
from unisd.config.yaml_file import read_yaml

WORDS = {
    "2e-5": 2e-5,
    "1e+06": 1e6,
    "-2E-5": -2e-5,
    ".5": 0.5,
    "5.": 5.0,
    "1_000": 1000,
    "010": 8,
    "0o10": 8,
    "08": 8.0,
    "0x1F": 31,
    "0b11": 3,
    "+1": 1,
    "-0": 0,
    "yes": True,
    "y": True,
    "n": False,
    "Off": False,
    "TRUE": True,
    "null": None,
    "~": None,
    "": None,
    # Text
    "1:30": "1:30",
    "190:20:30": "190:20:30",
    "2026-01-01": "2026-01-01",
    "2026-13-45": "2026-13-45",
    "=": "=",
    "1.2.3": "1.2.3",
    "0b": "0b",
    "0x": "0x",
    "_1": "_1",
    ".": ".",
    "'2e-5'": "2e-5",
    "200Gi": "200Gi",
}


@pytest.mark.parametrize(("word", "meaning"), WORDS.items())
def test_words_are_what_kubectl_takes_them_for(tmp_path, word, meaning):
    path = tmp_path / "file.yaml"
    path.write_text(f"field: {word}", encoding="utf-8")
    found = read_yaml(path)["field"]
    assert (found, type(found)) == (meaning, type(meaning))


def test_infinity_is_a_number_that_models_refuse(tmp_path):
    path = tmp_path / "file.yaml"
    path.write_text("field: [.inf, .nan]", encoding="utf-8")
    infinite, none = read_yaml(path)["field"]
    assert math.isinf(infinite)
    assert math.isnan(none)


def test_merged_keys_and_empty_documents(tmp_path):
    path = tmp_path / "file.yaml"
    path.write_text("---\n# nothing\n---\na: &a {b: 1}\nc: {<<: *a, d: 2}\n---\n", encoding="utf-8")
    assert read_yaml(path) == {"a": {"b": 1}, "c": {"b": 1, "d": 2}}


@pytest.mark.parametrize(
    "text",
    ["a: [", "a: \0", "? [1]\n: 2", "a: " + "9" * 5000, "[" * 5000, "a: !!python/object:os.system {}"],
    ids=["open", "control", "key", "digits", "deep", "tag"],
)
def test_what_is_no_yaml_is_told(tmp_path, text):
    path = tmp_path / "file.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"is not YAML"):
        read_yaml(path)
