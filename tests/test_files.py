"""Files that appear whole or not at all."""

import os
import socket

import pytest

from unisd.files import link, own_staging, share, write_text


@pytest.mark.parametrize(("directory", "weights"), [(0o2770, 0o640), (0o755, 0o644), (0o700, 0o600)])
def test_weights_are_for_whoever_may_read_their_directory(tmp_path, directory, weights):
    (tmp_path / "model").mkdir()
    (tmp_path / "model").chmod(directory)
    file = tmp_path / "model/model.safetensors"
    file.touch(0o600)
    share(tmp_path / "model")
    assert file.stat().st_mode & 0o777 == weights


def test_what_is_being_made_is_of_this_process_on_this_host(tmp_path):
    staging = own_staging(tmp_path / "prepared.json")
    assert staging.parent == tmp_path
    assert staging.name == f".prepared.json.{socket.gethostname()}.{os.getpid()}"


def test_what_a_killed_process_left_is_in_nobodys_way(tmp_path):
    own_staging(tmp_path / "model").symlink_to(tmp_path / "nowhere")
    own_staging(tmp_path / "rows.jsonl").write_text("half of a longer te")
    link(tmp_path / "model", tmp_path)
    write_text(tmp_path / "rows.jsonl", "whole")
    assert (tmp_path / "model").resolve() == tmp_path.resolve()
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["model", "rows.jsonl"]
    assert (tmp_path / "rows.jsonl").read_text() == "whole"
