"""An answer draws, compares, saves and converts itself."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import supervision
from helpers.answers import answer_of, disc
from PIL import Image

from seg_zero import extras
from seg_zero.errors import InputError
from seg_zero.masks import decode_mask
from seg_zero.results.result import SegmentationResult
from seg_zero.visualize import overlay

SIZE = (160, 120)
MASKS = [disc(SIZE, (40, 40), 20), disc(SIZE, (110, 70), 30)]


def test_equal_answers_are_equal_whenever_and_wherever_they_were_given() -> None:
    one, again = answer_of(MASKS), answer_of([mask.copy() for mask in MASKS])
    assert one == again and hash(one) == hash(again)
    assert one == replace(again, seconds={}, name="other.png", warning="careful")
    assert one in [again] and len({one, again}) == 1


@pytest.mark.parametrize(
    "other",
    [
        answer_of(MASKS[:1]),
        answer_of([MASKS[0], MASKS[1] & (np.arange(SIZE[0]) > 100)]),
        answer_of(MASKS, question="both discs"),
        answer_of(MASKS, problem="unreadable"),
        answer_of([disc((80, 60), (40, 40), 9)] * 2, (80, 60)),
        "all discs",
    ],
)
def test_other_answers_are_not_equal(other: object) -> None:
    assert answer_of(MASKS) != other


def test_an_object_is_more_than_its_box() -> None:
    first, second = answer_of([MASKS[0]]).objects[0], answer_of([MASKS[1]]).objects[0]
    assert (first.box, first.points) == (second.box, second.points) and first != second
    assert first == answer_of([MASKS[0]]).objects[0]


def test_the_overlay_is_the_common_look_and_what_a_notebook_shows() -> None:
    result = answer_of(MASKS)
    drawn = np.asarray(result.overlay())
    assert (drawn == np.asarray(overlay(result.image, result.masks, result.objects, min_side=448))).all()
    assert (drawn != np.asarray(result.overlay(prompts=False))).any()
    shown = Image.open(io.BytesIO(result._repr_png_()))
    assert shown.format == "PNG" and shown.size == (640, 480)
    wide = answer_of([np.ones((300, 3000), dtype=bool)], (3000, 300))
    assert max(Image.open(io.BytesIO(wide._repr_png_())).size) == 1024


def test_json_holds_all_but_the_pixels_of_the_picture() -> None:
    result = answer_of(MASKS, name="photos/a.jpg")
    record = json.loads(result.to_json())
    assert record == result.to_dict() and (record["image"], record["width"], record["height"]) == (
        "photos/a.jpg",
        *SIZE,
    )
    for item, mask in zip(record["objects"], MASKS, strict=True):
        assert (decode_mask(item["segmentation"]) == mask).all()
    assert (decode_mask(record["segmentation"]) == result.mask).all() and record["area"] == result.mask.sum()
    assert [item["score"] for item in record["objects"]] == [0.9, 0.8]
    assert "segmentation" not in result.to_dict(per_object=False)["objects"][0]
    assert "warning" not in record and replace(result, warning="careful").to_dict()["warning"] == "careful"
    assert "texts" not in record and replace(result, texts=("a", "b")).to_dict()["texts"] == ["a", "b"]


def test_supervision_gets_boxes_masks_and_scores() -> None:
    result = answer_of([*MASKS, np.zeros((120, 160), dtype=bool)])
    found = result.to_supervision()
    assert isinstance(found, supervision.Detections) and len(found) == 2, "an object without a pixel is no detection"
    assert found.xyxy.tolist() == [[21, 21, 60, 60], [81, 41, 140, 100]]
    assert (found.mask == np.array(MASKS)).all() and found.confidence.tolist() == pytest.approx([0.9, 0.8])
    assert found.data["class_name"].tolist() == ["all discs"] * 2
    assert found.area.tolist() == [mask.sum() for mask in MASKS]
    drawn = supervision.MaskAnnotator().annotate(np.array(result.image), found)
    assert (drawn != np.asarray(result.image)).any()
    assert len(answer_of([]).to_supervision()) == 0


def test_supervision_is_an_extra_that_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'seg-zero\[supervision\]'"):
        answer_of(MASKS).to_supervision()


def test_with_votes_the_fused_mask_is_what_is_annotated() -> None:
    fused = MASKS[0] | MASKS[1]
    result = answer_of(MASKS, mask=fused, texts=("a", "b", "c"))
    ((mask, score),) = result.regions
    assert (mask == fused).all() and score == pytest.approx(0.85)
    assert answer_of(MASKS, mask=np.zeros_like(fused), texts=("a", "b")).regions == []


def test_an_answer_saves_its_files_under_the_name_of_its_image(tmp_path: Path) -> None:
    result = answer_of(MASKS, name="photos/red fish.jpg")
    files = result.save(tmp_path / "new")
    assert {kind: Path(path).name for kind, path in files.items()} == {
        "overlay": "red fish_overlay.png",
        "mask": "red fish_mask.png",
        "rle": "red fish_rle.json",
    }
    assert (np.asarray(Image.open(files["mask"])) == result.mask * 255).all()
    assert json.loads(Path(files["rle"]).read_text()) == result.to_dict(per_object=False)
    alone = answer_of(MASKS).save(tmp_path, outputs=("cutout", "coco"), per_object=True)
    assert sorted(Path(path).name for path in alone.values()) == [
        *("answer_coco.json", "answer_cutout.png", "answer_cutout_1.png", "answer_cutout_2.png")
    ]
    assert Path(answer_of(MASKS).save(tmp_path, "mine", ["mask"])["mask"]).name == "mine_mask.png"


@pytest.mark.parametrize(
    ("outputs", "words"),
    [(["overlay", "voc"], "'voc' is not known; choose of overlay,mask"), ([], "none is named; choose of")],
)
def test_unknown_outputs_are_named_before_anything_is_written(outputs: list[str], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        answer_of(MASKS).save(tmp_path / "new", outputs=outputs)
    assert not (tmp_path / "new").exists()


def test_a_place_that_is_no_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"):
        answer_of(MASKS).save(tmp_path / "file")


def test_an_answer_reads_back_from_its_json() -> None:
    written = answer_of(MASKS, warning="careful", name="a.png")
    read = SegmentationResult.from_dict(json.loads(written.to_json()), written.image)
    assert read == written and (read.warning, read.name) == ("careful", "a.png")
    assert read.to_json() == written.to_json()
    nothing = answer_of([])
    assert SegmentationResult.from_dict(nothing.to_dict(), nothing.image) == nothing


@pytest.mark.parametrize(
    "change",
    [
        {"width": 9},
        {"text": None},
        {"objects": [{}]},
        {"segmentation": {"size": [1, 1], "counts": "01"}},
        {"height": 9},
    ],
)
def test_json_of_another_answer_is_refused(change: dict[str, object]) -> None:
    answer = answer_of(MASKS)
    with pytest.raises(InputError, match="the answer cannot be read for this image"):
        SegmentationResult.from_dict({**answer.to_dict(), **change}, answer.image)
