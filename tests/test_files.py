"""Where files and folders can be written, and what says that they cannot."""

from __future__ import annotations

import codecs
import errno
import os
import re
import tempfile
from pathlib import Path

import pytest
from helpers.full_disk import little_room

from seg_zero import files
from seg_zero.errors import InputError
from seg_zero.files import (
    make_folder,
    read_json,
    read_lines,
    read_text,
    short_temporary_folder,
    shown,
    write_text,
    writing,
)

PACKAGE = Path(files.__file__).parent


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("folder", "folder is a folder; give the name of a file"),
        ("folder.json", "folder.json is a folder; give another name"),
        ("file/a/b.txt", "file is a file and no folder; give another place"),
    ],
)
def test_a_place_where_no_file_can_be_is_named_before_anything_is_written(
    tmp_path: Path, place: str, message: str
) -> None:
    for folder in ("folder", "folder.json"):
        (tmp_path / folder).mkdir()
    (tmp_path / "file").write_text("kept")
    with pytest.raises(InputError, match=message):
        write_text(tmp_path / place, "text")
    assert (tmp_path / "file").read_text() == "kept"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder", "folder.json"]


@pytest.mark.parametrize(
    ("place", "message"),
    [("file", "file is a file; give the name of a folder"), ("file/a", "file is a file and no folder")],
)
def test_a_file_is_no_folder(tmp_path: Path, place: str, message: str) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(InputError, match=message):
        make_folder(tmp_path / place)
    assert make_folder(tmp_path / "new" / "folder").is_dir()


def test_texts_are_read_with_and_without_a_byte_order_mark(tmp_path: Path) -> None:
    for start in (b"", codecs.BOM_UTF8):
        (tmp_path / "a.json").write_bytes(start + '{"tasse": "café"}'.encode())
        assert read_json(tmp_path / "a.json") == {"tasse": "café"}
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="nested too deeply"):
        read_json(tmp_path / "deep.json")
    write_text(tmp_path / "lines", "one\u2028half\n\ntwo\x85half\n")
    assert read_lines(tmp_path / "lines") == ["one\u2028half", "two\x85half"]


def test_all_json_files_are_read_by_one_function() -> None:
    """A reader of its own would fail on a byte-order mark."""
    own = re.compile(r"json\.loads\([^()]*(?:\([^()]*\))?[^()]*\.read_text\(|json\.load\((?!sys\.stdin)")
    found = [path for path in PACKAGE.rglob("*.py") if own.search(path.read_text()) and path.name != "files.py"]
    assert not found


def test_names_that_are_not_utf8_are_shown_escaped_and_can_be_written(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    assert shown(Path("/a") / name) == r"/a/caf\xe9" and shown("café") == "café" and shown("\ud800") == r"\ud800"
    write_text(tmp_path / name, f"in {name}")
    assert read_text(tmp_path / name) == r"in caf\udce9"
    files.write_json(tmp_path / "x.json", {"name": name})
    assert read_json(tmp_path / "x.json") == {"name": name}


def test_a_full_disk_is_one_line_and_leaves_what_was_there(tmp_path: Path) -> None:
    place = tmp_path / "out.txt"
    write_text(place, "before")
    with (
        little_room(1000),
        pytest.raises(InputError, match=r"out\.txt cannot be written \(File too large\); free space"),
    ):
        write_text(place, "x" * 5000)
    assert place.read_text() == "before" and os.listdir(tmp_path) == ["out.txt"]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "x"), r"out cannot be written \(No space left on device\); free space there or give"),
        (RuntimeError("I/O error: Permission denied (os error 13)"), r"\(Permission denied\); change its permissions"),
        (OSError(errno.EROFS, "x", "/elsewhere/file"), "/elsewhere/file cannot be used"),
    ],
)
def test_places_that_refuse_are_named(error: Exception, message: str) -> None:
    with pytest.raises(InputError, match=message), writing(Path("/some/out")):
        raise error
    with pytest.raises(RuntimeError, match="another"), writing(Path("/some/out")):
        raise RuntimeError("another")


def test_a_folder_that_cannot_be_written_is_named_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != tmp_path)  # root may write anywhere
    for check in (files.check_file_place, files.check_folder_place):
        with pytest.raises(InputError, match=f"as {tmp_path} is not writable; give another place"):
            check(tmp_path / "new" / "out")


@pytest.mark.parametrize("place", ["/proc/new", "/proc/new/deep/out"])
def test_a_disk_that_refuses_whatever_the_permissions_is_named(place: str) -> None:
    for check in (files.check_file_place, files.check_folder_place, make_folder, lambda path: write_text(path, "x")):
        with pytest.raises(InputError, match=f"{place} cannot be written, as /proc .*; give another place"):
            check(Path(place))


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone" / "deeper")
    for write in (lambda path: make_folder(path), lambda path: write_text(path / "file", "x")):
        with pytest.raises(InputError, match=r"nowhere cannot be made \(File exists\); give another place"):
            write(tmp_path / "nowhere")


def test_too_long_a_name_is_one_line(tmp_path: Path) -> None:
    for check in (files.check_file_place, files.check_folder_place, make_folder):
        with pytest.raises(InputError, match=r"\(File name too long\); shorten the name or give another place"):
            check(tmp_path / ("n" * 300))


def test_a_check_of_a_place_leaves_nothing_there(tmp_path: Path) -> None:
    files.check_file_place(tmp_path / "new" / "file")
    files.check_folder_place(tmp_path)
    assert not os.listdir(tmp_path)


def test_sockets_get_a_folder_with_a_short_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/tmp/t")
    monkeypatch.setattr(os, "access", lambda path, _: str(path) in ("/tmp/t", "/tmp"))
    assert short_temporary_folder(files.RAY_SOCKETS) == Path("/tmp/t")
    long = "/tmp/" + "t" * 115
    monkeypatch.setattr(tempfile, "tempdir", long)
    assert short_temporary_folder(files.RAY_SOCKETS) == Path("/tmp")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(InputError, match=f"TMPDIR={long} is too long .* set TMPDIR to a folder with a short path"):
        short_temporary_folder(files.RAY_SOCKETS)
