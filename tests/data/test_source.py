"""Datasets opened by name: every kind of file gives the same rows, every wrong name one line."""

from __future__ import annotations

import base64
import json
import multiprocessing
import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.pictures import encoded
from PIL import Image

from seg_zero.data import source as source_module
from seg_zero.data.rows import Row, write_rows
from seg_zero.data.source import RowSource, open_rows, short_name
from seg_zero.errors import InputError
from seg_zero.images import encode_png

SINGLE = "<box>(2,1),(5,3)</box><points>(4,2),(3,2)</points>"
MULTI = '[{"bbox_2d":[2,1,5,3],"point_2d":[4,2]}]'


@pytest.fixture(autouse=True)
def own_caches(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("hf"))
    datasets.disable_progress_bars()


def _row(number: int, **change: Any) -> Row:
    image = encode_png(Image.new("RGB", (8, 6), (number * 20 % 255, 0, 0)))
    row = Row(f"row-{number}", f"thing {number}", (SINGLE, MULTI)[number % 2], image, 60, 80)
    return replace(row, **change)


ROWS = [_row(number) for number in range(7)]


def _published(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Records with the published training columns."""
    return [
        {
            "id": row.id,
            "problem": row.problem,
            "solution": row.solution,
            "image": {"bytes": row.image_bytes, "path": None},
            "img_height": row.img_height,
            "img_width": row.img_width,
        }
        for row in rows
    ]


def _hf(rows: Sequence[Row] = ROWS) -> datasets.Dataset:
    return datasets.Dataset.from_list(_published(rows)).cast_column("image", datasets.Image())


def _json_records(rows: Sequence[Row], image: Callable[[Row], Any]) -> list[dict[str, Any]]:
    return [{**record, "image": image(row)} for record, row in zip(_published(rows), rows, strict=True)]


def _in_base64(row: Row) -> str:
    return base64.b64encode(row.image_bytes).decode()


def _as_parquet(folder: Path) -> str:
    write_rows(folder / "rows.parquet", ROWS)
    return str(folder / "rows.parquet")


def _as_foreign_parquet(folder: Path) -> str:
    _hf().to_parquet(folder / "hub.parquet")
    return str(folder / "hub.parquet")


def _as_folder(folder: Path) -> str:
    write_rows(folder / "a.parquet", ROWS[:4])
    write_rows(folder / "deep" / "b.parquet", ROWS[4:])
    return str(folder)


def _as_hub_snapshot(folder: Path) -> str:
    write_rows(folder / "data" / "train-00000-of-00002.parquet", ROWS[:4])
    write_rows(folder / "data" / "train-00001-of-00002.parquet", ROWS[4:])
    write_rows(folder / "data" / "test-00000-of-00001.parquet", ROWS[:1])
    return f"{folder}@train"


def _as_glob(folder: Path) -> str:
    _as_folder(folder)
    return f"{folder}/**/*.parquet"


def _as_saved(folder: Path) -> str:
    _hf().save_to_disk(folder / "saved")
    return str(folder / "saved")


def _as_saved_splits(folder: Path) -> str:
    datasets.DatasetDict(train=_hf(), test=_hf(ROWS[:1])).save_to_disk(folder / "saved")
    return f"{folder / 'saved'}@train"


def _as_saved_struct(folder: Path) -> str:
    """Images as a plain struct rather than the Image feature."""
    datasets.Dataset.from_list(_published(ROWS)).save_to_disk(folder / "saved")
    return str(folder / "saved")


def _as_json(folder: Path) -> str:
    (folder / "rows.json").write_text(json.dumps(_json_records(ROWS, _in_base64), indent=1, ensure_ascii=False))
    return str(folder / "rows.json")


def _as_json_lines(folder: Path) -> str:
    records = _json_records(ROWS, lambda row: {"bytes": "data:image/png;base64," + _in_base64(row)})
    (folder / "rows.jsonl").write_text("\n\n".join(map(json.dumps, records)))
    return str(folder / "rows.jsonl")


def _as_json_with_files(folder: Path) -> str:
    (folder / "images").mkdir()
    for row in ROWS:
        (folder / "images" / f"{row.id}.png").write_bytes(row.image_bytes)
    records = _json_records(ROWS, lambda row: f"images/{row.id}.png")
    (folder / "rows.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(folder / "rows.jsonl")


LAYOUTS = [
    _as_parquet,
    _as_foreign_parquet,
    _as_folder,
    _as_hub_snapshot,
    _as_glob,
    _as_saved,
    _as_saved_splits,
    _as_saved_struct,
    _as_json,
    _as_json_lines,
    _as_json_with_files,
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_rows(
    layout: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_rows(layout(tmp_path))
    assert len(source) == len(ROWS)
    assert list(source) == ROWS
    assert source[-1] == ROWS[-1] and source[5] == ROWS[5] and source[1:6:2] == ROWS[1:6:2]
    for name in ("id", "problem", "solution", "img_width", "kind", "mask"):
        assert source.column(name) == [getattr(row, name) for row in ROWS]
    monkeypatch.chdir("/")
    assert open_rows(source.name).fingerprint == source.fingerprint
    assert list(pickle.loads(pickle.dumps(source))) == ROWS
    with pytest.raises(IndexError):
        source[len(ROWS)]


def _splits(folder: Path, *names: str) -> None:
    for name in names:
        write_rows(folder / f"{name}-00000-of-00001.parquet", ROWS[: len(name)])


def test_which_split_is_taken(tmp_path: Path) -> None:
    _splits(tmp_path, "test")
    assert open_rows(tmp_path).name == f"{tmp_path}@test"
    _splits(tmp_path, "train")
    assert len(open_rows(f"{tmp_path}@train")) == 5
    assert len(open_rows(tmp_path, default_split="train")) == 5
    with pytest.raises(InputError, match="has the splits test, train; choose one with NAME@test"):
        open_rows(tmp_path)
    with pytest.raises(InputError, match="has no split 'val'; it has test, train"):
        open_rows(f"{tmp_path}@val", default_split="train")


def test_a_path_may_hold_an_at_sign(tmp_path: Path) -> None:
    write_rows(tmp_path / "me@home" / "rows.parquet", ROWS)
    assert len(open_rows(tmp_path / "me@home" / "rows.parquet")) == len(open_rows(tmp_path / "me@home")) == 7


def test_wrong_names(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("no parquet")
    (tmp_path / "cut.parquet").write_bytes(Path(_as_parquet(tmp_path)).read_bytes()[:500])
    (tmp_path / "cut.json").write_text('[{"id": 1}, {"id"')
    (tmp_path / "word.jsonl").write_text("hello\n")
    (tmp_path / "number.jsonl").write_text("3\n")
    (tmp_path / "columns.jsonl").write_text('{"id": 1, "image": "x"}\n')
    (tmp_path / "empty").mkdir()
    (tmp_path / "mixed").mkdir()
    write_rows(tmp_path / "mixed" / "train-00000-of-00001.parquet", ROWS)
    write_rows(tmp_path / "mixed" / "more.parquet", ROWS)
    (tmp_path / "unlike").mkdir()
    write_rows(tmp_path / "unlike" / "a.parquet", ROWS)
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "unlike" / "b.parquet")
    saved = _as_saved(tmp_path)
    for name, message in {
        "none.parquet": "does not exist",
        "a/b/c": "does not exist",
        "*.csv": "matches no file",
        "text.parquet": "is not parquet",
        "cut.parquet": "is not parquet",
        "rows.parquet@test": "is a file and has no splits; leave '@test' away",
        "cut.json": "is not JSON (after record 1",
        "word.jsonl": "is not JSON",
        "number.jsonl": "is a JSON int, not an object",
        "columns.jsonl": "lacks the columns problem or text, solution or mask; it has id, image",
        "empty": "neither parquet files nor",
        "mixed": "holds more.parquet, which belongs to no split",
        "unlike": "lacks columns of a.parquet in b.parquet",
        "unlike@test": "has files whose names tell no splits",
        "saved@train": "is a single dataset without the split 'train'",
    }.items():
        with pytest.raises(InputError) as error:
            open_rows(f"{tmp_path}/{name}")
        assert message in str(error.value), name
        assert str(error.value).startswith(f"dataset {tmp_path}/{name} ") and "\n" not in str(error.value)
    next(Path(saved).glob("*.arrow")).write_bytes(b"cut")
    with pytest.raises(InputError, match="cannot be loaded"):
        open_rows(saved)


def test_hub_names(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    hub = {
        "user/one": datasets.DatasetDict(test=_hf(ROWS[:2])),
        "user/two": datasets.DatasetDict(train=_hf(), test=_hf(ROWS[:2])),
    }

    def load(name: str) -> datasets.DatasetDict:
        if name not in hub:
            raise ConnectionError(f"Couldn't reach\n{name}")
        return hub[name]

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(source_module, "unreachable", lambda: None)
    source_module._load_hub.cache_clear()
    assert open_rows("user/one").name == "user/one@test"
    assert list(pickle.loads(pickle.dumps(open_rows("user/two@train")))) == ROWS
    assert len(open_rows("user/two", default_split="train")) == 7
    assert "opening user/one from the Hugging Face hub" in capsys.readouterr().err
    with pytest.raises(InputError, match="has the splits train, test"):
        open_rows("user/two")
    with pytest.raises(InputError, match=r"dataset user/gone is no local file.*\(ConnectionError: Couldn't reach user"):
        open_rows("user/gone")


def test_large_row_groups_are_copied_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = _as_foreign_parquet(tmp_path)
    monkeypatch.setattr(source_module, "MAX_GROUP_BYTES", 100)
    source = open_rows(name)
    assert "are slow to pick rows from; using a memory-mapped copy under" in capsys.readouterr().err
    assert list(source) == ROWS and source.name == name
    assert open_rows(name).fingerprint == source.fingerprint


def test_a_byte_order_mark_is_no_obstacle(tmp_path: Path) -> None:
    records = [{"id": str(i), "problem": "the cup", "solution": "[]", "image": "a.png"} for i in range(3)]
    texts = {"list.json": json.dumps(records), "lines.jsonl": "\n".join(map(json.dumps, records))}
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8-sig")
        assert open_rows(tmp_path / name).column("id") == ["0", "1", "2"]


def test_pictures_in_wrapped_base64_data_urls_and_windows_paths(tmp_path: Path) -> None:
    picture = Image.new("RGB", (7, 5), "red")
    (tmp_path / "pictures").mkdir()
    picture.save(tmp_path / "pictures" / "a.png")
    images = [
        base64.encodebytes(encoded(picture, "PNG", compress_level=0)).decode(),  # with line breaks
        "data:image/bmp;base64," + base64.b64encode(encoded(picture, "BMP")).decode(),
        "pictures\\a.png",
    ]
    assert "\n" in images[0].strip()
    records = [{"id": i, "problem": "the cup", "solution": "[]", "image": image} for i, image in enumerate(images)]
    (tmp_path / "rows.json").write_text(json.dumps(records))
    assert [row.image().tobytes() for row in open_rows(tmp_path / "rows.json")] == [picture.tobytes()] * 3


def test_selected_rows(tmp_path: Path) -> None:
    source = open_rows(_as_parquet(tmp_path))
    part = source.select([5, 1, 3]).select([2, 0])
    assert list(part) == [ROWS[3], ROWS[5]] and part.number(0) == 3 and part.number(-1) == 5
    assert part.column("id") == ["row-3", "row-5"]
    assert part.fingerprint != source.fingerprint
    assert list(pickle.loads(pickle.dumps(part))) == list(part)


def test_the_fingerprint_follows_the_content(tmp_path: Path) -> None:
    name = _as_parquet(tmp_path)
    before = open_rows(name).fingerprint
    assert open_rows(name).fingerprint == before
    write_rows(name, ROWS[:3])
    assert open_rows(name).fingerprint != before


def _ids(source: RowSource) -> list[str]:
    return [row.id for row in source]


def test_other_processes_and_threads_read_the_same(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.parquet", (_row(number) for number in range(200)))
    source = open_rows(tmp_path / "rows.parquet")
    expected = [f"row-{number}" for number in range(200)]
    assert source[100].id == "row-100"
    with multiprocessing.get_context("fork").Pool(2) as pool:  # as torch's data loader does
        assert pool.map(_ids, [source, source]) == [expected, expected]
    with ThreadPoolExecutor(8) as threads:
        assert [row.id for row in threads.map(source.__getitem__, range(200))] == expected


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("data/scenes.parquet", "scenes"),
        ("rows.v2.jsonl", "rows.v2"),
        ("user/ReasonSeg_val@test", "ReasonSeg_val"),
        ("user/sets@testA", "sets_testA"),
        ("/data/folder/", "folder"),
    ],
)
def test_short_names(name: str, short: str) -> None:
    assert short_name(name) == short
