"""Where files and folders can be written, and what says that they cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from seg_zero.errors import InputError
from seg_zero.files import make_folder, write_text


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("folder", "folder is a folder; give the name of a file"),
        ("file/a/b.txt", "file is a file and no folder; give another place"),
    ],
)
def test_a_place_where_no_file_can_be_is_named_before_anything_is_written(
    tmp_path: Path, place: str, message: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("kept")
    with pytest.raises(InputError, match=message):
        write_text(tmp_path / place, "text")
    assert (tmp_path / "file").read_text() == "kept"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]


@pytest.mark.parametrize(
    ("place", "message"),
    [("file", "file is a file; give the name of a folder"), ("file/a", "file is a file and no folder")],
)
def test_a_file_is_no_folder(tmp_path: Path, place: str, message: str) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(InputError, match=message):
        make_folder(tmp_path / place)
    assert make_folder(tmp_path / "new" / "folder").is_dir()
