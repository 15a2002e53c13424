"""From examples to rows: stretching, rounding, what is refused, workers, and the SAM2 filter."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from seg_zero.answer import parse_solution
from seg_zero.data.builders.build import Attempt, Example, Source, attempt, build, example_to_row
from seg_zero.data.synthetic.scenes import make_samples
from seg_zero.errors import InputError
from seg_zero.masks import PointRule, mask_to_prompt_object


def picture(width: int, height: int, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), 120, dtype=np.uint8)).save(buffer, format=kind)
    return buffer.getvalue()


def rectangle(width: int, height: int, x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
    mask = np.zeros((height, width), dtype=bool)
    mask[y1 : y2 + 1, x1 : x2 + 1] = True
    return mask


WIDE = Example("wide", " the cup ", picture(40, 20), (rectangle(40, 20, 10, 5, 19, 9),), kind="single")


def test_stretching_scales_and_rounds_what_the_original_mask_says() -> None:
    row = example_to_row(WIDE, 56)
    # 56/40 = 1.4 across and 56/20 = 2.8 down: 10, 5, 19, 9 become 14, 14, 26.6, 25.2. The rectangle is 3 deep
    # at (12, 7) first, that is (16.8, 19.6). Half of the pixels are 3 or more columns to the right of it, of which
    # (15, 7) is the first as deep: (21, 19.6).
    assert row.solution == "<box>(14,14),(27,25)</box><points>(17,20),(21,20)</points>"
    assert row.problem == "the cup" and (row.img_width, row.img_height) == (40, 20)
    assert row.image().size == (56, 56)
    truth = row.truth()
    assert truth is not None
    assert mask_to_prompt_object(truth).box == (14, 14, 27, 27)  # whole pixels of the original, stretched


def test_points_follow_the_published_rule_if_asked_for() -> None:
    cut_off = replace(WIDE, masks=(rectangle(40, 20, 0, 5, 9, 9),))  # by the left edge of the image
    expected: dict[PointRule, tuple[int, int]] = {"inscribed": (2, 7), "published": (0, 7)}
    for points, first in expected.items():
        row = attempt(cut_off, None, points=points).row
        assert row is not None and row.objects()[0].points[0] == first


def test_an_image_that_is_not_stretched_keeps_its_bytes_and_coordinates() -> None:
    row = example_to_row(WIDE, None)
    assert row.image_bytes == WIDE.image
    assert row.solution == "<box>(10,5),(19,9)</box><points>(12,7),(15,7)</points>"
    assert (row.truth() == WIDE.masks[0]).all()


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_pictures_keep_their_sort(kind: str) -> None:
    row = example_to_row(replace(WIDE, image=picture(40, 20, kind)), 56)
    assert Image.open(io.BytesIO(row.image_bytes)).format == kind


@pytest.mark.parametrize("image_size", [None, 56])
def test_heic_becomes_jpeg_which_every_reader_of_rows_knows(image_size: int | None) -> None:
    row = example_to_row(replace(WIDE, image=picture(40, 20, "HEIF")), image_size)
    assert Image.open(io.BytesIO(row.image_bytes)).format == "JPEG" and (row.img_width, row.img_height) == (40, 20)


def test_a_turned_photo_is_stored_upright() -> None:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    Image.new("RGB", (20, 40)).save(buffer, format="JPEG", exif=exif)
    row = example_to_row(replace(WIDE, image=buffer.getvalue()), None)
    stored = Image.open(io.BytesIO(row.image_bytes))
    assert stored.size == (40, 20) and not stored.getexif().get(0x0112)


def test_images_may_be_stored_at_the_sizes_of_every_family() -> None:
    row = example_to_row(WIDE, 64)  # two image tokens of Qwen3-VL, not a whole number of Qwen2.5-VL's
    assert row.image().size == (64, 64) and parse_solution(row.solution)[0].box == (16, 16, 30, 29)
    with pytest.raises(InputError, match="image_size 60 is a multiple of none of 28, 32"):
        example_to_row(WIDE, 60)


def test_no_object_and_several_objects() -> None:
    nothing = example_to_row(replace(WIDE, masks=()), 56)
    assert nothing.solution == "[]" and nothing.truth() is not None and not np.asarray(nothing.truth()).any()
    two = (WIDE.masks[0], rectangle(40, 20, 30, 0, 39, 9))
    row = example_to_row(replace(WIDE, masks=two), None)
    boxes = [item.box for item in parse_solution(row.solution)]
    assert boxes == [(10, 5, 19, 9), (30, 0, 39, 9)]
    assert (row.truth() == two[0] | two[1]).all()


def test_ignored_pixels_do_not_take_from_the_target() -> None:
    row = example_to_row(replace(WIDE, ignore=rectangle(40, 20, 15, 5, 25, 9)), None)
    truth = np.asarray(row.truth())
    assert (truth[7, 12], truth[7, 17], truth[7, 23], truth[0, 0]) == (1, 1, 255, 0)


@pytest.mark.parametrize(
    ("changes", "size", "words"),
    [
        ({"question": "  "}, 56, "empty question"),
        ({"question": "the cup <|im_end|>"}, 56, "<|im_end|>"),
        ({"question": "half \ud800 a character"}, 56, "half a character"),
        ({"masks": (np.zeros((20, 40), dtype=bool),)}, 56, "mask is empty"),
        ({"masks": (np.ones((40, 20), dtype=bool),)}, 56, "a mask is 20x40, its image 40x20"),
        ({"image": b"no picture"}, 56, "cannot be read"),
        ({"image": picture(400, 200, "JPEG")[:500], "masks": ()}, 56, "cannot be read"),
        ({"image": Path("none.jpg")}, 56, "none.jpg does not exist"),
        ({"image": picture(400, 200), "masks": (rectangle(400, 200, 0, 0, 0, 0),)}, 28, "larger --image_size"),
        ({"masks": (rectangle(40, 20, 10, 5, 10, 15),)}, 56, "its box has no area"),
    ],
)
def test_unusable_examples_are_named(changes: dict, size: int, words: str) -> None:
    with pytest.raises(InputError, match="example 'wide'") as error:
        example_to_row(replace(WIDE, **changes), size)
    assert words in str(error.value)


def numbered(number: int) -> Example:
    """Every tenth example cannot be used."""
    if number % 10 == 9:
        raise InputError(f"example {number} is bad; mend it")
    return replace(WIDE, id=f"example {number}", question=f"cup {number}")


def ids(path: Path) -> list[str]:
    return pq.read_table(path, columns=["id"]).column("id").to_pylist()


def test_workers_give_the_same_rows_in_the_same_order(tmp_path: Path) -> None:
    source = Source(range(70), numbered)
    reports = [
        build(source, tmp_path / f"{workers}.parquet", image_size=28, workers=workers, skip_bad=True)
        for workers in (1, 2)
    ]
    assert reports[0] == reports[1]
    assert reports[0].rows == 63 and reports[0].problems[1] == "example 19 is bad; mend it"
    assert ids(tmp_path / "1.parquet") == ids(tmp_path / "2.parquet")
    assert ids(tmp_path / "2.parquet") == [f"example {i}" for i in range(70) if i % 10 != 9]


def test_a_bad_example_ends_the_build_and_leaves_no_file(tmp_path: Path) -> None:
    calls: list[int] = []
    with pytest.raises(InputError, match=r"example 9 is bad; mend it\. --skip-bad"):
        build(Source(range(70), numbered), tmp_path / "x.parquet", progress=lambda: calls.append(1))
    assert len(calls) == 10 and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [("notes.json", "is no parquet file; nothing replaces it"), ("folder", "is a folder; give the name of a file")],
)
def test_a_build_replaces_nothing_but_rows(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "notes.json").write_text("[1]")
    (tmp_path / "folder").mkdir()
    calls: list[int] = []
    with pytest.raises(InputError, match=message):
        build(Source(range(3), numbered), tmp_path / name, progress=lambda: calls.append(1))
    assert calls == [] and (tmp_path / "notes.json").read_text() == "[1]"
    build(Source(range(3), numbered), tmp_path / "rows.parquet")
    assert len(ids(tmp_path / "rows.parquet")) == 3
    build(Source(range(4), numbered), tmp_path / "rows.parquet")
    assert len(ids(tmp_path / "rows.parquet")) == 4


def test_an_id_that_comes_twice_is_left_out(tmp_path: Path) -> None:
    source = Source([1, 2, 1], numbered)
    with pytest.raises(InputError, match="'example 1' is in the source more than once"):
        build(source, tmp_path / "x.parquet", image_size=28)
    report = build(source, tmp_path / "x.parquet", image_size=28, skip_bad=True)
    assert report.rows == 2 and len(report.problems) == 1


def test_a_build_without_rows_says_why(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"1 records, 1 unusable.*first problem: example 9 is bad"):
        build(Source([9], numbered), tmp_path / "x.parquet", skip_bad=True)
    assert list(tmp_path.iterdir()) == []


def test_sam2_filter_drops_the_row_with_a_wrong_mask(tmp_path: Path) -> None:
    from seg_zero.segmenter import load_segmenter

    samples = make_samples(seed=5, count=6, side=112, kinds=["attr"])
    examples = []
    for number, sample in enumerate(samples):
        buffer = io.BytesIO()
        sample.scene.image.save(buffer, format="PNG")
        masks = tuple(sample.scene.objects[i].mask for i in sample.question.targets)
        examples.append(Example(str(number), sample.question.text, buffer.getvalue(), masks, kind="single"))
    frame = rectangle(112, 112, 2, 2, 109, 109) & ~rectangle(112, 112, 8, 8, 103, 103)
    examples[2] = replace(examples[2], masks=(frame,))
    examples[4] = replace(examples[4], masks=())  # nothing to disagree about
    report = build(
        Source(examples, lambda example: example),
        tmp_path / "x.parquet",
        image_size=112,
        segmenter=load_segmenter("tiny"),
    )
    assert report.disagreed == 1 and report.rows == 5
    assert ids(tmp_path / "x.parquet") == ["0", "1", "3", "4", "5"]


@pytest.mark.parametrize("size", [56, None])
def test_an_object_without_area_is_dropped_and_its_pixels_count_neither_way(size: int | None) -> None:
    line = rectangle(40, 20, 30, 5, 30, 15)  # one pixel wide
    found = attempt(replace(WIDE, masks=(*WIDE.masks, line)), size)
    assert found.row is not None and found.degenerate == 1
    assert found.row.objects() == example_to_row(WIDE, size).objects()
    truth = found.row.truth()
    assert truth is not None and (truth == 255).any() and (truth == 1).sum() == example_to_row(WIDE, size).truth().sum()  # type: ignore[union-attr]
    assert attempt(replace(WIDE, masks=(line,)), size) == Attempt(degenerate=1)


def test_an_object_that_vanishes_at_the_size_of_the_row_is_dropped_too() -> None:
    """Its box still has an area, but all of its pixels lie between those that are kept (53 is one)."""
    small = rectangle(200, 200, 52, 52, 52, 52) | rectangle(200, 200, 54, 54, 54, 54)
    large = rectangle(200, 200, 100, 100, 180, 180)
    example = Example("mixed", "both", picture(200, 200), (small, large))
    found = attempt(example, 28)
    assert found.row is not None and found.degenerate == 1 and len(found.row.objects()) == 1
    assert attempt(replace(example, masks=(small,)), 28) == Attempt(degenerate=1)
    with pytest.raises(InputError, match="example 'mixed': an object of which no pixel is left at 28 pixels"):
        attempt(example, 28, strict=True)
    assert attempt(example, None).degenerate == 0


def test_objects_without_area_are_counted_or_with_strict_stop_the_build(tmp_path: Path) -> None:
    line = rectangle(40, 20, 30, 5, 30, 15)
    examples = [WIDE, replace(WIDE, id="both", masks=(*WIDE.masks, line)), replace(WIDE, id="line", masks=(line,))]
    report = build(Source(examples, load=lambda example: example), tmp_path / "rows.parquet")
    assert (report.rows, report.thin_objects, report.thin_questions, report.problems) == (2, 2, 1, [])
    with pytest.raises(InputError, match="example 'both': an object so thin that its box has no area"):
        build(Source(examples, load=lambda example: example), tmp_path / "strict.parquet", strict=True)
    assert not (tmp_path / "strict.parquet").exists()
