"""What names a model on a command line."""

import pytest

from unisd.config.model import is_path


@pytest.mark.parametrize("path", ["/models/a", "./a", "../a", "~/a", "runs/exp/star-1", "model.gguf"])
def test_what_looks_like_a_path_is_one(path):
    assert is_path(path)


def test_what_stands_there_is_a_path_and_the_rest_are_hub_ids(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not is_path("lab/model")
    (tmp_path / "lab/model").mkdir(parents=True)
    assert is_path("lab/model")
    assert not is_path("gpt2")
