"""The row schema, its validation and its parquet file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from seg_zero.data import rows as rows_module
from seg_zero.data.rows import GROUP_ROWS, SCHEMA, Row, write_rows
from seg_zero.data.source import open_rows
from seg_zero.errors import InputError
from seg_zero.images import encode_png
from seg_zero.masks import encode_mask

MASK = np.zeros((6, 8), dtype=bool)
MASK[1:4, 2:6] = True
IGNORED = np.zeros((6, 8), dtype=bool)
IGNORED[3:6, 5:8] = True
GOOD = Row("a", "the cup", "[]", encode_png(Image.new("RGB", (8, 6), "red")), 60, 80, encode_mask(MASK), "kitchen")


def test_every_field_survives_the_file(tmp_path: Path) -> None:
    full = replace(GOOD, ignore=encode_mask(IGNORED))
    bare = Row("b", "物体", "[]", GOOD.image_bytes, 0, 0)
    assert write_rows(tmp_path / "deep" / "rows.parquet", [full, bare]) == 2
    assert open_rows(tmp_path / "deep" / "rows.parquet")[:] == [full, bare]
    assert pq.read_schema(tmp_path / "deep" / "rows.parquet") == SCHEMA


def test_truth_marks_ignored_pixels() -> None:
    assert replace(GOOD, mask=None).truth() is None
    assert np.array_equal(GOOD.truth(), MASK)  # type: ignore[arg-type]
    truth = replace(GOOD, ignore=encode_mask(IGNORED)).truth()
    assert truth is not None and set(np.unique(truth)) == {0, 1, 255}
    assert (truth[MASK] == 1).all() and (truth[IGNORED & ~MASK] == 255).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"problem": None}, "problem is NoneType, not str"),
        ({"id": 3}, "id is int, not str"),
        ({"solution": [1]}, "solution is list, not str"),
        ({"image_bytes": "text"}, "image_bytes is str, not bytes"),
        ({"img_height": -1}, "img_height is -1"),
        ({"img_width": 8.5}, "img_width is 8.5"),
        ({"mask": {"size": [6, 8]}}, "mask is not COCO RLE"),
        ({"mask": {"size": [6], "counts": "0"}}, "mask has size [6]"),
        ({"ignore": {"size": [6, 8], "counts": b"0"}}, "ignore is not COCO RLE"),
    ],
)
def test_wrong_values_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        replace(GOOD, **change)
    assert message in str(error.value) and str(error.value).startswith("row ")


def test_row_groups_are_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most 32 rows and about 8 MiB, so that one row is cheap to read."""
    path = tmp_path / "rows.parquet"

    def sizes() -> list[int]:
        metadata = pq.ParquetFile(path).metadata
        return [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]

    write_rows(path, [GOOD] * (GROUP_ROWS + 5))
    assert sizes() == [GROUP_ROWS, 5]
    monkeypatch.setattr(rows_module, "GROUP_BYTES", 2 * len(GOOD.image_bytes))
    write_rows(path, [GOOD] * 5)
    assert sizes() == [2, 2, 1]


def test_rows_are_written_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the rows of one group are held."""
    monkeypatch.setattr(rows_module, "GROUP_ROWS", 4)
    taken, held = 0, []
    write_table = pq.ParquetWriter.write_table

    def counting(writer: pq.ParquetWriter, table: Any, *args: Any, **kwargs: Any) -> None:
        held.append((taken, table.num_rows))
        write_table(writer, table, *args, **kwargs)

    def generator() -> Iterator[Row]:
        nonlocal taken
        for _ in range(10):
            taken += 1
            yield GOOD

    monkeypatch.setattr(pq.ParquetWriter, "write_table", counting)
    assert write_rows(tmp_path / "rows.parquet", generator()) == 10
    assert held == [(4, 4), (8, 4), (10, 2)]


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    write_rows(path, [GOOD])

    def failing() -> Iterator[Row]:
        yield GOOD
        raise RuntimeError("source ended")

    with pytest.raises(RuntimeError, match="source ended"):
        write_rows(path, failing())
    assert open_rows(path)[:] == [GOOD]
    assert list(tmp_path.iterdir()) == [path]


def test_no_rows_make_an_empty_dataset(tmp_path: Path) -> None:
    assert write_rows(tmp_path / "rows.parquet", []) == 0
    assert open_rows(tmp_path / "rows.parquet")[:] == []
