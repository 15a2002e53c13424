"""Judging label maps: both rules, resumption, bad items, the page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seg_zero.errors import InputError
from seg_zero.evaluation.semantic import run
from seg_zero.evaluation.semantic.page import write_page
from seg_zero.evaluation.semantic.presets import LabelSet, open_set
from seg_zero.evaluation.semantic.run import Results, evaluate_labels, map_path
from seg_zero.metrics.semantic import Confusion
from seg_zero.open_vocabulary.labels import parse_labels
from seg_zero.open_vocabulary.result import LabelledImage

LABELS = ["sky", "cat, kitten", "grass", "snow"]


class RedChannel:
    """Calls a pixel what its red channel says; 9 is no label."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.loaded = 0

    def __call__(self) -> RedChannel:
        self.loaded += 1
        return self

    def segment(self, image: Path) -> LabelledImage:
        self.seen.append(image.stem)
        try:
            picture = Image.open(image).convert("RGB")
        except OSError as error:
            raise InputError(f"image {image} cannot be read") from error
        red = np.asarray(picture)[..., 0].astype(np.int32)
        sure = np.where(red == 9, 0.0, 1.0).astype(np.float32)
        return LabelledImage(
            picture,
            tuple(parse_labels(LABELS)),
            np.ones((4, 1, 1), np.float32) / 4,
            np.ones(4, bool),
            np.minimum(red, 3),
            sure,
        )


@pytest.fixture
def data(tmp_path: Path) -> LabelSet:
    """Five pictures and their truths: the classes 0 to 2, some pixels that do not count."""
    root = tmp_path / "data"
    (root / "images").mkdir(parents=True)
    (root / "labels").mkdir()
    rng = np.random.default_rng(0)
    for number in range(5):
        truth = rng.integers(0, 3, (20, 30))
        found = np.where(rng.random((20, 30)) < 0.2 * number, rng.choice([0, 1, 2, 3, 9], (20, 30)), truth)
        truth[rng.random((20, 30)) < 0.1] = 255
        Image.fromarray(np.repeat(found[..., None], 3, 2).astype(np.uint8)).save(root / f"images/p{number}.png")
        Image.fromarray(truth.astype(np.uint8)).save(root / f"labels/p{number}.png")
    return open_set("folder", root, labels=LABELS)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(run, "PART_IMAGES", 2)
    yield


def expected(data: LabelSet, leave_out: tuple[str, ...] = ()) -> Confusion:
    total = Confusion(4)
    for pair in data.listing.pairs:
        if pair.name not in leave_out:
            red = np.asarray(Image.open(pair.image))[..., 0].astype(np.int64)
            total.add(np.where(red == 9, 255, red), np.asarray(Image.open(pair.truth)).astype(np.int64))
    return total


def judge(data: LabelSet, out: Path, labeller: RedChannel | None = None) -> Results:
    return evaluate_labels(labeller or RedChannel(), data, {"backbone": "red"}, out)


def test_the_numbers_are_those_of_one_confusion_matrix(data: LabelSet, tmp_path: Path) -> None:
    results = judge(data, tmp_path / "out")
    assert np.array_equal(results.confusion.matrix, expected(data).matrix)
    stored = json.loads((tmp_path / "out/metrics.json").read_text())
    assert stored["mmseg"] == expected(data).result() and stored["detectron2"] == expected(data).result("detectron2")
    assert stored["mmseg"]["mIoU"] < stored["detectron2"]["mIoU"], "snow is only predicted"
    assert [one["name"] for one in stored["classes"]] == ["sky", "cat", "grass", "snow"]
    assert stored["classes"][3] == {"name": "snow", "iou": 0.0, "accuracy": None, "pixels": 0}
    assert (stored["images"], stored["judged"], stored["failed"]) == (5, 5, [])
    red = np.asarray(Image.open(data.listing.pairs[4].image))[..., 0]
    found = np.asarray(Image.open(map_path(tmp_path / "out", "p4")))
    assert np.array_equal(found, np.where(red == 9, 0, red + 1))


def test_an_interrupted_evaluation_goes_on(data: LabelSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = judge(data, tmp_path / "whole")

    class Stops(RedChannel):
        def segment(self, image: Path) -> LabelledImage:
            if image.stem == "p3":
                raise KeyboardInterrupt
            return super().segment(image)

    first, second, third = Stops(), RedChannel(), RedChannel()
    with pytest.raises(KeyboardInterrupt):
        judge(data, tmp_path / "out", first)
    results = judge(data, tmp_path / "out", second)
    assert first.seen == ["p0", "p1", "p2"] and second.seen == ["p2", "p3", "p4"]
    assert np.array_equal(results.confusion.matrix, whole.confusion.matrix)
    assert (tmp_path / "out/metrics.json").read_bytes() == (tmp_path / "whole/metrics.json").read_bytes()
    judge(data, tmp_path / "out", third)
    assert third.loaded == 0 and second.loaded == 1


@pytest.mark.parametrize("text", ["", "no json\n", '{"name": "p0", "cells": [[0, 9, 1]], "problem": null}\n'])
def test_a_damaged_part_is_labelled_again(data: LabelSet, tmp_path: Path, text: str) -> None:
    judge(data, tmp_path / "out")
    (tmp_path / "out/parts/00000.jsonl").write_text(text)
    labeller = RedChannel()
    assert np.array_equal(judge(data, tmp_path / "out", labeller).confusion.matrix, expected(data).matrix)
    assert labeller.seen == ["p0", "p1"]


def test_bad_items_are_listed_and_end_nothing(data: LabelSet, tmp_path: Path) -> None:
    pairs = data.listing.pairs
    saved = pairs[3].truth.read_bytes()
    pairs[1].image.write_bytes(b"no picture")
    pairs[2].truth.unlink()
    Image.new("L", (5, 5)).save(pairs[3].truth)
    labeller = RedChannel()
    results = judge(data, tmp_path / "out", labeller)
    assert np.array_equal(results.confusion.matrix, expected(data, ("p1", "p2", "p3")).matrix)
    problems = {one.name: str(one.problem) for one in results.failed}
    assert sorted(problems) == ["p1", "p2", "p3"]
    assert "cannot be read" in problems["p1"] and "does not exist" in problems["p2"]
    assert f"label map {pairs[3].truth} has 5x5 pixels, its picture" in problems["p3"]
    assert "p2" not in labeller.seen, "a picture without truth is not labelled"
    pairs[3].truth.write_bytes(saved)
    again = RedChannel()
    repaired = judge(data, tmp_path / "out", again)
    assert again.seen == ["p1", "p3"] and [one.name for one in repaired.failed] == ["p1", "p2"]
    assert np.array_equal(repaired.confusion.matrix, expected(data, ("p1", "p2")).matrix)


def test_nothing_that_can_be_judged_is_one_line(data: LabelSet, tmp_path: Path) -> None:
    for pair in data.listing.pairs:
        pair.truth.write_bytes(b"no picture")
    with pytest.raises(InputError, match="none of 5 pictures could be judged; the first: label map"):
        judge(data, tmp_path / "out")
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["lock"], "free for other labels"


def test_a_folder_of_another_evaluation_is_refused(data: LabelSet, tmp_path: Path) -> None:
    judge(data, tmp_path / "out")
    with pytest.raises(InputError, match=r"backbone was 'red' and is 'blue'"):
        evaluate_labels(RedChannel(), data, {"backbone": "blue"}, tmp_path / "out")


def test_the_page_shows_numbers_classes_cases_and_problems(data: LabelSet, tmp_path: Path) -> None:
    data.listing.pairs[1].truth.unlink()
    results = judge(data, tmp_path / "out")
    write_page(tmp_path / "page.html", results, tmp_path / "out", "This run: <fast>.")
    text = (tmp_path / "page.html").read_text()
    assert f"{results.confusion.result()['mIoU']:.3f}" in text and "This run: &lt;fast&gt;." in text
    assert "1 of 5 pictures could not be judged" in text and "does not exist" in text
    assert text.count('class="case"') == 4 and text.count("<img ") == 8
    for words in ("What is taken for what", "no label", "<td>kitten", "All pictures"):
        assert (words in text) == (words != "<td>kitten"), words
    map_path(tmp_path / "out", "p0").unlink()
    write_page(tmp_path / "page.html", results, tmp_path / "out", "")
    assert "cannot be drawn" in (tmp_path / "page.html").read_text()
