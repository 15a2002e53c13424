"""RefCOCO/+/g and gRefCOCO from small files in the original formats, and pickles that are not trusted."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from seg_zero.cli.data import BUILDERS
from seg_zero.cli.main import main
from seg_zero.data.builders.build import Example
from seg_zero.data.builders.restricted_pickle import read_plain_pickle
from seg_zero.errors import InputError

# Two pictures of 60 x 40: a rectangle as a polygon and one as plain runs down the columns (x 30..39, y 10..19).
RUNS = [30 * 40 + 10, 10, *[30, 10] * 9, 20 + 20 * 40]
INSTANCES: dict[str, Any] = {
    "images": [
        {"id": 7, "file_name": "COCO_train2014_000000000007.jpg", "width": 60, "height": 40},
        {"id": 8, "file_name": "COCO_train2014_000000000008.jpg", "width": 60, "height": 40},
    ],
    "annotations": [
        {"id": 70, "image_id": 7, "category_id": 1, "iscrowd": 0, "segmentation": [[5, 4, 15, 4, 15, 10, 5, 10]]},
        {"id": 71, "image_id": 7, "category_id": 1, "segmentation": {"size": [40, 60], "counts": RUNS}},
        {"id": 80, "image_id": 8, "category_id": 1, "segmentation": [[0, 0, 60, 0, 60, 40, 0, 40]]},
    ],
    "categories": [{"id": 1, "name": "person", "supercategory": "person"}],
}


def ref(number: int, annotation: Any, image: int, split: str, sentences: list[str], **more: Any) -> dict[str, Any]:
    first = 10 * number
    return {
        "ref_id": number,
        "ann_id": annotation,
        "image_id": image,
        "file_name": f"COCO_train2014_{image:012d}_{annotation}.jpg",
        "category_id": 1,
        "split": split,
        "sent_ids": [first + i for i in range(len(sentences))],
        "sentences": [
            {"sent": text, "raw": text.title(), "sent_id": first + i, "tokens": text.split()}
            for i, text in enumerate(sentences)
        ],
        **more,
    }


REFS = [
    ref(1, 70, 7, "train", ["man on the left", "left one"]),
    ref(2, 71, 7, "train", ["the man on the right"]),
    ref(3, 80, 8, "testA", ["all of it"]),
]
GREFS = [
    ref(1, [70, 71], 7, "train", ["both men"], no_target=False),
    ref(2, [71], 7, "train", ["the man on the right"], no_target=False),
    ref(3, [-1], 8, "train", ["the horse"], no_target=True),
]


def python2_pickle(value: Any) -> bytes:
    """``value`` as protocol 2 with the byte strings that Python 2 wrote for str."""

    def write(item: Any) -> bytes:
        if isinstance(item, dict):
            return b"}(" + b"".join(write(k) + write(v) for k, v in item.items()) + b"u"
        if isinstance(item, list):
            return b"](" + b"".join(map(write, item)) + b"e"
        if isinstance(item, bytes):
            return b"U" + bytes([len(item)]) + item
        return write(item.encode()) if isinstance(item, str) else b"J" + item.to_bytes(4, "little", signed=True)

    return b"\x80\x02" + write(value) + b"."


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The refer layout with RefCOCOg (pickle) and gRefCOCO (JSON)."""
    for name in ("refcocog", "grefcoco", "train2014"):
        (tmp_path / name).mkdir()
    (tmp_path / "refcocog/instances.json").write_text(json.dumps(INSTANCES))
    (tmp_path / "grefcoco/instances.json").write_text(json.dumps(INSTANCES))
    (tmp_path / "refcocog/refs(umd).p").write_bytes(pickle.dumps(REFS))
    (tmp_path / "grefcoco/grefs(unc).json").write_text(json.dumps(GREFS))
    for image in INSTANCES["images"]:
        Image.new("RGB", (60, 40), (90, 120, 60)).save(tmp_path / "train2014" / image["file_name"])
    return tmp_path


def run(root: Path, *arguments: str) -> list[dict[str, Any]]:
    """The rows that the command writes; its exit code must be 0."""
    out = root / "rows.parquet"
    assert main(["data", *arguments, "--root", str(root), "--image_size", "original", "--out", str(out)]) == 0
    return pq.read_table(out).to_pylist()


def failure(root: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The error line of the command, which must write nothing."""
    out = root / "none.parquet"
    assert main(["data", *arguments, "--root", str(root), "--out", str(out)]) == 2
    assert not out.exists()
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


REFCOCOG = ("refcoco", "--dataset", "refcocog")


def test_every_sentence_is_a_row(root: Path) -> None:
    rows = run(root, *REFCOCOG)
    assert [(row["id"], row["problem"], row["kind"]) for row in rows] == [
        ("refcocog_umd_1_10", "man on the left", "single"),
        ("refcocog_umd_1_11", "left one", "single"),
        ("refcocog_umd_2_20", "the man on the right", "single"),
    ]
    # The polygon is 10 x 6 pixels, 3 deep from (7, 6) on; the runs are 10 x 10, 5 deep at (34, 14).
    assert rows[0]["solution"].startswith("<box>(5,4),(14,9)</box><points>(7,6),")
    assert rows[2]["solution"].startswith("<box>(30,10),(39,19)</box><points>(34,14),")
    assert (rows[0]["img_width"], rows[0]["img_height"]) == (60, 40)
    assert run(root, *REFCOCOG, "--split", "testA")[0]["solution"].startswith("<box>(0,0),(59,39)</box>")


def test_first_sentence_only(root: Path) -> None:
    assert [row["id"] for row in run(root, *REFCOCOG, "--sentences", "first")] == [
        "refcocog_umd_1_10",
        "refcocog_umd_2_20",
    ]


def test_shuffle_comes_before_limit_and_repeats(root: Path) -> None:
    found = {seed: run(root, *REFCOCOG, "--limit", "1", "--shuffle", seed)[0]["id"] for seed in "0123456789"}
    assert len(set(found.values())) == 3
    assert run(root, *REFCOCOG, "--limit", "1", "--shuffle", "3")[0]["id"] == found["3"]


def test_explicit_files_in_any_format_give_the_same_rows(root: Path) -> None:
    expected = run(root, *REFCOCOG)
    for name, content in {
        "refs(umd) 2.p": python2_pickle(REFS),
        "refs(umd) 0.p": pickle.dumps(REFS, protocol=0),
        "refs.json": json.dumps(REFS).encode(),
    }.items():
        (root / name).write_bytes(content)
        assert run(root, *REFCOCOG, "--refs", str(root / name)) == expected


def test_grefcoco_has_several_one_and_no_target(root: Path) -> None:
    rows = run(root, "grefcoco")
    assert [(row["id"], row["kind"]) for row in rows] == [
        ("grefcoco_unc_1_10", "multi"),
        ("grefcoco_unc_2_20", "single"),
        ("grefcoco_unc_3_30", "none"),
    ]
    assert [item["bbox_2d"] for item in json.loads(rows[0]["solution"])] == [[5, 4, 14, 9], [30, 10, 39, 19]]
    assert rows[2]["solution"] == "[]" and rows[2]["mask"]["size"] == [40, 60]


def test_the_masks_are_those_of_the_file(root: Path) -> None:
    import argparse
    import importlib

    module = importlib.import_module(BUILDERS["grefcoco"][0])
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    source = module.source(parser.parse_args(["--root", str(root)]))
    example: Example = source.load(source.records[0])
    runs, polygon = np.zeros((40, 60), dtype=bool), np.zeros((40, 60), dtype=bool)
    polygon[4:10, 5:15] = True
    runs[10:20, 30:40] = True
    assert (example.masks[0] == polygon).all() and (example.masks[1] == runs).all()
    # A worker is sent what its questions need, not the annotation file.
    assert len(pickle.dumps((source.records[0], source.load))) < 2000


def test_wrong_splits_and_missing_files(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "it has train (2), testA (1)" in failure(root, capsys, *REFCOCOG, "--split", "val")
    assert "none of refs(google).p" in failure(root, capsys, *REFCOCOG, "--split_by", "google")
    assert "nowhere is not a folder" in failure(root, capsys, *REFCOCOG, "--images", str(root / "nowhere"))
    assert "cannot be read" in failure(root, capsys, *REFCOCOG, "--instances", str(root / "nowhere.json"))
    assert "cannot be read" in failure(root, capsys, *REFCOCOG, "--refs", str(root / "nowhere.p"))
    assert "not a list of refs" in failure(root, capsys, *REFCOCOG, "--refs", str(root / "refcocog/instances.json"))
    assert main(["data", *REFCOCOG, "--refs", "x.p", "--out", "x.parquet"]) == 2
    assert "--instances, --images missing" in capsys.readouterr().err


def test_truncated_files(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refs = root / "refcocog/refs(umd).p"
    refs.write_bytes(refs.read_bytes()[:-40])
    assert "not a whole pickle" in failure(root, capsys, *REFCOCOG)
    instances = root / "grefcoco/instances.json"
    instances.write_text(instances.read_text()[:300])
    assert "not whole JSON" in failure(root, capsys, "grefcoco")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ann_id": 99}, "annotation id 99 is not in"),
        ({"image_id": 99}, "image id 99 is not in"),
        ({"image_id": 8, "ann_id": 70}, "annotation 70 is of image 7"),
        ({"ann_id": []}, "neither annotations nor no_target"),
        ({"no_target": True}, "says no_target"),
        ({"sentences": [{"sent_id": 1}]}, "has no 'sent'"),
        ({"sentences": [{"sent_id": 1, "sent": 3}]}, "not text"),
        ({"sentences": ["the man"]}, "another type"),
        ({"image_id": [7]}, "another type"),
        ({"sentences": REFS[0]["sentences"][:1] * 2}, "more than once"),
        ({"sentences": []}, "no sentence"),
    ],
)
def test_a_ref_that_cannot_be_used_is_named_or_left_out(
    root: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], words: str
) -> None:
    (root / "refs.json").write_text(json.dumps([{**REFS[0], **change}, REFS[1]]))
    error = failure(root, capsys, *REFCOCOG, "--refs", str(root / "refs.json"))
    assert words in error and "refcocog_umd_1" in error and "--skip-bad" in error
    rows = run(root, *REFCOCOG, "--refs", str(root / "refs.json"), "--skip-bad")
    assert [row["id"] for row in rows if row["id"] != "refcocog_umd_1_10"] == ["refcocog_umd_2_20"]
    assert words in capsys.readouterr().out


def test_long_lists_of_problems_go_to_a_file(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refs = [REFS[0], *(ref(100 + number, 70, 99, "train", ["nobody"]) for number in range(30))]
    (root / "refs.json").write_text(json.dumps(refs))
    run(root, *REFCOCOG, "--refs", str(root / "refs.json"), "--skip-bad", "--workers", "1")
    printed = capsys.readouterr().out
    assert "2 rows written" in printed and "30 unusable" in printed and "10 more" in printed
    assert len((root / "rows.parquet.skipped.txt").read_text().splitlines()) == 30


def test_missing_image_and_malformed_annotation(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed = json.loads(json.dumps(INSTANCES))
    changed["annotations"][0]["segmentation"] = [[5, 4, 150, 4, 150, 10]]
    (root / "refcocog/instances.json").write_text(json.dumps(changed))
    assert "annotation 70: a polygon reaches from x=5 to 150" in failure(root, capsys, *REFCOCOG)
    (root / "train2014/COCO_train2014_000000000008.jpg").unlink()
    assert "000000000008.jpg does not exist" in failure(root, capsys, "grefcoco")
    changed["annotations"].append(changed["annotations"][0])
    (root / "refcocog/instances.json").write_text(json.dumps(changed))
    assert "1 ids of 'annotations'" in failure(root, capsys, *REFCOCOG)


class Attack:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.file}",)


def test_a_pickle_that_would_run_something_does_not(tmp_path: Path) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        file = tmp_path / "refs.p"
        file.write_bytes(pickle.dumps([{"split": Attack(tmp_path / "ran")}], protocol=protocol))
        with pytest.raises(InputError, match=r"names (posix|nt)\.system, which is not plain data"):
            read_plain_pickle(file)
    for module, name in (("builtins", "eval"), ("__builtin__", "getattr"), ("numpy.core.multiarray", "scalar")):
        file.write_bytes(f"c{module}\n{name}\n.".encode())
        with pytest.raises(InputError, match=f"{module}.{name}"):
            read_plain_pickle(file)
    assert not (tmp_path / "ran").exists()


def test_plain_data_comes_back_from_every_protocol(tmp_path: Path) -> None:
    value = {"a": [1, -(2**70), 2.5, None, True], "b": ({1, 2}, frozenset({"x"})), "ключ": "été"}
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        (tmp_path / "x.p").write_bytes(pickle.dumps(value, protocol=protocol))
        assert read_plain_pickle(tmp_path / "x.p") == value


def test_text_of_python_2(tmp_path: Path) -> None:
    for encoding in ("utf-8", "latin-1"):
        (tmp_path / "x.p").write_bytes(python2_pickle([{"sent": "café au lait".encode(encoding)}]))
        assert read_plain_pickle(tmp_path / "x.p") == [{"sent": "café au lait"}]


@pytest.mark.parametrize("data", [b"", b"no pickle", b"\x80\x02", b"\x80\xff.", b"(((", b"}(U\x01ae.", b"]R."])
def test_damaged_pickles(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.p").write_bytes(data)
    with pytest.raises(InputError, match="not a whole pickle"):
        read_plain_pickle(tmp_path / "x.p")


def test_grefcoco_skips_targets_that_are_crowds(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As the published reader does; a question about crowds alone cannot be used."""
    crowded = [{**entry, "iscrowd": int(entry["id"] == 71)} for entry in INSTANCES["annotations"]]
    (root / "grefcoco/instances.json").write_text(json.dumps({**INSTANCES, "annotations": crowded}))
    assert "all of its targets are crowds" in failure(root, capsys, "grefcoco")
    rows = run(root, "grefcoco", "--skip-bad")
    assert [(row["problem"], row["kind"]) for row in rows] == [("both men", "single"), ("the horse", "none")]
