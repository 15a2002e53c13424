"""Published columns to rows, and what is said of records that are none."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from seg_zero.data.rows import Row
from seg_zero.data.source import open_rows
from seg_zero.errors import InputError
from seg_zero.images import encode_png
from seg_zero.masks import decode_mask, encode_mask

MULTI = '[{"bbox_2d":[2,1,5,3],"point_2d":[4,2]}]'
ROWS = [
    Row(f"row-{n}", f"thing {n}", MULTI, encode_png(Image.new("RGB", (8, 6), (n * 20, 0, 0))), 60, 80) for n in range(7)
]


def _mask(number: int) -> np.ndarray:
    mask = np.zeros((6, 8), dtype=bool)
    mask[1:4, 2 : 4 + number % 3] = True
    return mask


def _training_records() -> list[dict[str, Any]]:
    return [
        {
            "id": row.id,
            "problem": row.problem,
            "solution": row.solution,
            "image": base64.b64encode(row.image_bytes).decode(),
            "img_height": row.img_height,
            "img_width": row.img_width,
        }
        for row in ROWS
    ]


def _evaluation_records(**other: Any) -> list[dict[str, Any]]:
    return [
        {
            "image": {"bytes": ROWS[number].image_bytes, "path": None},
            "text": ROWS[number].problem,
            "mask": (_mask(number) if number else np.zeros((6, 8), dtype=bool)).tolist(),
            "image_id": f"image-{number // 2}",
            "ann_id": number,
            "img_height": 60,
            "img_width": 80,
            "bbox": [2.0, 1.0, 5.0, 3.0],
            **other,
        }
        for number in range(4)
    ]


def _evaluation_json(folder: Path, records: list[dict[str, Any]]) -> str:
    records = [
        {**record, "image": base64.b64encode(row.image_bytes).decode()}
        for record, row in zip(records, ROWS, strict=False)
    ]
    (folder / "rows.json").write_text(json.dumps(records))
    return str(folder / "rows.json")


def _evaluation_saved(folder: Path, records: list[dict[str, Any]]) -> str:
    split = datasets.Dataset.from_list(records).cast_column("image", datasets.Image())
    datasets.DatasetDict(test=split).save_to_disk(folder / "saved")
    return str(folder / "saved")


def _evaluation_parquet(folder: Path, records: list[dict[str, Any]]) -> str:
    pq.write_table(pa.Table.from_pylist(records), folder / "rows.parquet")
    return str(folder / "rows.parquet")


@pytest.mark.parametrize("layout", [_evaluation_json, _evaluation_saved, _evaluation_parquet])
def test_evaluation_layout(layout: Callable[[Path, list[dict[str, Any]]], str], tmp_path: Path) -> None:
    """text is the question, image_id and ann_id the id, and the solution comes from the mask."""
    source = open_rows(layout(tmp_path, _evaluation_records()))
    assert source.column("id") == [row.id for row in source] == ["image-0_0", "image-0_1", "image-1_2", "image-1_3"]
    assert source.column("problem") == ["thing 0", "thing 1", "thing 2", "thing 3"]
    assert source[0].solution == "[]" and source[0].objects() == ()
    for number in (1, 2, 3):
        row = source[number]
        assert row.mask is not None and np.array_equal(decode_mask(row.mask), _mask(number))
        assert row.objects()[0].box == (2, 1, 3 + number % 3, 3) and len(row.objects()[0].points) == 2
        assert (row.img_height, row.img_width, row.image_bytes) == (60, 80, ROWS[number].image_bytes)
    assert source.column("solution") == [row.solution for row in source]


def test_a_solution_beside_a_mask_is_kept(tmp_path: Path) -> None:
    source = open_rows(_evaluation_parquet(tmp_path, _evaluation_records(solution=MULTI)))
    assert source[1].solution == MULTI


def test_ignored_pixels_of_a_number_mask(tmp_path: Path) -> None:
    mask = _mask(0).astype(int)
    mask[5, :] = 255
    source = open_rows(_evaluation_parquet(tmp_path, _evaluation_records(mask=mask.tolist())))
    assert source[0].mask == encode_mask(mask == 1) and source[0].ignore == encode_mask(mask == 255)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ([[True, False], [True]], "neither COCO RLE nor H x W nested lists"),
        ([], "neither COCO RLE nor H x W nested lists"),
        ([[0, 7]], "holds the values [0, 7]"),
        ([[0, 255]], "holds the values [0, 255]"),
        (None, "neither a solution nor a mask"),
        ([[None, True]], "neither COCO RLE nor H x W nested lists"),
    ],
)
@pytest.mark.parametrize("layout", [_evaluation_json, _evaluation_parquet])
def test_bad_masks(
    layout: Callable[[Path, list[dict[str, Any]]], str], mask: Any, message: str, tmp_path: Path
) -> None:
    source = open_rows(layout(tmp_path, _evaluation_records(mask=mask)))
    with pytest.raises(InputError) as error:
        source[2]
    assert message in str(error.value) and str(error.value).startswith(f"row 2 of {source.name}: ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": None}, "holds neither bytes nor a path"),
        ({"image": ""}, "holds neither bytes nor a path"),
        ({"image": "gone.png"}, "gone.png does not exist"),
        ({"image": "x" * 5000}, "cannot be read"),
        ({"image": "iVBORw0KGgo?"}, "broken base64"),
        ({"image": {"path": "gone.png"}}, "gone.png does not exist"),
        ({"id": None}, "the id is null"),
        ({"problem": None}, "problem is NoneType"),
        ({"problem": ["a"]}, "problem is list"),
        ({"solution": None}, "neither a solution nor a mask"),
        ({"img_height": "60"}, "img_height is '60'"),
    ],
)
def test_bad_records_are_named_by_number(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    records = _training_records()
    records[3] |= change
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, records)))
    source = open_rows(tmp_path / "rows.jsonl")
    assert source[2] == ROWS[2]
    with pytest.raises(InputError) as error:
        source[3]
    assert str(error.value).startswith(f"row 3 of {tmp_path / 'rows.jsonl'}: ")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_lists_as_solutions(tmp_path: Path) -> None:
    records = [{**record, "solution": json.loads(MULTI)} for record in _training_records()]
    (tmp_path / "rows.json").write_text(json.dumps(records))
    assert open_rows(tmp_path / "rows.json")[0].solution == MULTI
