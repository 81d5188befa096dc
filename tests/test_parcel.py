"""Files and folders in a stream, whole at the other end or not at all."""

import io
import tarfile
from pathlib import Path

import pytest

from unisd.files import own_staging
from unisd.parcel import ParcelError, pack, size_of, unpack


def packed(source: Path) -> bytes:
    out = io.BytesIO()
    pack(source, out)
    return out.getvalue()


def folder(path: Path) -> Path:
    (path / "deep").mkdir(parents=True)
    (path / "one.txt").write_text("one")
    (path / "deep/two.bin").write_bytes(bytes(300_000))
    return path


def test_a_folder_arrives_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "new/there"
    unpack(io.BytesIO(packed(folder(tmp_path / "here"))), target)
    assert (target / "one.txt").read_text() == "one"
    assert size_of(target) == (2, 300_003)


def test_a_file_arrives_under_its_new_name(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}\n")
    unpack(io.BytesIO(packed(tmp_path / "rows.jsonl")), tmp_path / "other.jsonl")
    assert (tmp_path / "other.jsonl").read_text() == "{}\n"


def test_what_is_linked_travels_too(tmp_path: Path) -> None:
    """A hub's cache links to its files; links would lead nowhere on the other machine."""
    (tmp_path / "blob").write_text("weights")
    (tmp_path / "model").mkdir()
    (tmp_path / "model/weights").symlink_to(tmp_path / "blob")
    unpack(io.BytesIO(packed(tmp_path / "model")), tmp_path / "there")
    assert (tmp_path / "there/weights").read_text() == "weights"
    assert not (tmp_path / "there/weights").is_symlink()


@pytest.mark.parametrize("left", [0, 700, 100_000])
def test_a_stream_that_ends_early_leaves_nothing(tmp_path: Path, left: int) -> None:
    stream = packed(folder(tmp_path / "here"))[:left]
    with pytest.raises(ParcelError, match="stream"):
        unpack(io.BytesIO(stream), tmp_path / "there")
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_what_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("mine")
    with pytest.raises(ParcelError, match="already"):
        unpack(io.BytesIO(packed(folder(tmp_path / "here"))), tmp_path / "there")
    assert (tmp_path / "there").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../escaped", tarfile.REGTYPE),
        ("/tmp/escaped", tarfile.REGTYPE),
        ("content/../../escaped", tarfile.DIRTYPE),
        ("content", tarfile.SYMTYPE),
        ("content", tarfile.LNKTYPE),
        ("content", tarfile.CHRTYPE),
    ],
)
def test_what_arrives_is_files_and_folders_in_their_place(tmp_path: Path, name: str, kind: bytes) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(ParcelError, match=f"holds {name}"):
        unpack(io.BytesIO(out.getvalue()), tmp_path / "place/there")
    assert [path.name for path in tmp_path.rglob("*")] == ["place"]


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ParcelError, match="nothing is not there"):
        pack(tmp_path / "nothing", io.BytesIO())


def test_what_a_killed_process_left_is_in_nobodys_way(tmp_path: Path) -> None:
    folder(own_staging(tmp_path / "there"))
    (tmp_path / "rows.jsonl").write_text("{}\n")
    unpack(io.BytesIO(packed(tmp_path / "rows.jsonl")), tmp_path / "there")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl", "there"]
