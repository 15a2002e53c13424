"""Labels on the page without a page: the line of users, what is written, what is shown, and the files."""

from __future__ import annotations

import base64
import io
import json
import re
import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers.pictures import encoded
from PIL import Image

from seg_zero.cli import web
from seg_zero.errors import InputError
from seg_zero.open_vocabulary.labels import parse_labels
from seg_zero.open_vocabulary.pictures import colour_of_label
from seg_zero.open_vocabulary.result import LabelledImage
from seg_zero.open_vocabulary.settings import Settings
from seg_zero.serving.uploads import Limits
from seg_zero.web import labels
from seg_zero.web.asker import Waiting
from seg_zero.web.labels import Asked, Labelled, Labeller, Labelling, at_place, chips, draw, legend, read_chips
from seg_zero.web.session import Picture

SKY = ("sky", "cat, kitten", "grass")


class Halves:
    """The upper half is the first label, the lower one the last; the left column is unsure. The second is absent."""

    def __init__(self) -> None:
        self.gate, self.done = threading.Event(), list[Any]()
        self.gate.set()
        self.encoder = SimpleNamespace(description=SimpleNamespace(image=SimpleNamespace(crop=192, stride=64)))

    def change(self, settings: Settings) -> None:
        self.settings = settings

    def refine_with(self, refiner: object) -> None:
        self.refiner = refiner

    def segment(self, image: Image.Image, given: tuple[str, ...]) -> LabelledImage:
        assert self.gate.wait(20)
        self.done.append((given, self.settings, self.refiner))
        classes = np.zeros((image.height, image.width), np.int32)
        classes[image.height // 2 :] = len(given) - 1
        sure = np.ones(classes.shape, np.float32)
        sure[:, 0] = 0
        patches = np.zeros((len(given), 2, 2), np.float32)
        patches[0, 0], patches[-1, 1] = 0.75, 1
        kept = np.ones(len(given), bool)
        kept[1] = False
        return LabelledImage(image, tuple(parse_labels(given)), patches, kept, classes, sure)


@pytest.fixture
def halves() -> Halves:
    return Halves()


@pytest.fixture
def labeller(halves: Halves) -> Labeller:
    return Labeller(halves, "SAM2", "stand-in", "it knows nothing")  # type: ignore[arg-type]


def answered(labeller: Labeller, size: tuple[int, int] = (60, 40), given: tuple[str, ...] = SKY) -> Labelled:
    picture = Picture.read("a sea.png", encoded(Image.new("RGB", size, (0, 0, 128))), Limits())
    asked = Asked(given, Settings(threshold=0.25), refine=True)
    *_, (found, seconds) = labeller.label(picture.view, asked)
    return Labelled.of(picture, found, seconds, asked, labeller)


def files(answer: Labelled) -> dict[str, bytes]:
    found = re.findall(r'download="([^"]+)" href="data:[^;]+;base64,([^"]+)"', answer.files)
    return {name: base64.b64decode(data) for name, data in found}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], []),
        (["sky", " sky ", "SKY"], ["sky"]),
        (["sky; grass;;tall  tree", "cat, kitten"], ["sky", "grass", "tall tree", "cat, kitten"]),
        (["  ", "a\nb"], ["a", "b"]),
        (["Straße", "STRASSE"], ["Straße"]),
    ],
)
def test_what_is_written_becomes_chips(given: list[str], expected: list[str]) -> None:
    assert chips(given) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "there is no label"),
        ([" ; "], "there is no label"),
        (["cat, kitten", "kitten"], "'kitten' is given twice"),
        (["sky, ,"], "holds an empty synonym"),
        ([f"thing {number}" for number in range(201)], "201 labels are more than 200"),
    ],
)
def test_labels_that_cannot_be_asked_about_are_named(given: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_chips(given)


def test_pictures_are_labelled_in_turn_each_with_its_own_settings(halves: Halves, labeller: Labeller) -> None:
    halves.gate.clear()
    image = Image.new("RGB", (8, 8))
    one = labeller.label(image, Asked(("sky", "cat"), Settings()))
    two = labeller.label(image, Asked(("sea", "cat"), Settings(scra_scaling=None), refine=True))
    gone = labeller.label(image, Asked(("mud", "cat"), Settings()))
    assert [next(one), next(two), next(gone)] == [Waiting(0), Waiting(1), Waiting(2)]
    gone.close()
    halves.gate.set()
    assert [list(one)[-1][0].names[1], list(two)[-1][0].names[1]] == ["sky", "sea"]  # type: ignore[index]
    assert halves.done == [
        (("sky", "cat"), Settings(), None),
        (("sea", "cat"), Settings(scra_scaling=None), "SAM2"),
    ]
    assert labeller.windows == (192, 64)


def test_what_the_model_refuses_is_raised_where_it_is_read(labeller: Labeller) -> None:
    with pytest.raises(IndexError):
        list(labeller.label(Image.new("RGB", (8, 8)), Asked(("sky",), Settings())))
    assert answered(labeller).names == ("sky", "cat", "grass"), "the next one is served"


def test_files_hold_the_map_at_the_size_of_the_picture_and_a_record(labeller: Labeller) -> None:
    answer = answered(labeller, (1600, 400))
    assert answer.picture.view.size == (1280, 320) and answer.label_map.shape == (320, 1280)
    made = files(answer)
    assert list(made) == ["a_sea_labels.png", "a_sea_overlay.png", "a_sea_heatmaps.png", "a_sea_labels.json"]
    image = Image.open(io.BytesIO(made["a_sea_labels.png"]))
    values = np.asarray(image)
    assert image.mode == "P" and values.shape == (400, 1600) and values[100, 800] == 1 and values[300, 800] == 3
    assert image.convert("RGB").getpixel((800, 300)) == colour_of_label(3) and values[100, 0] == 0
    record = json.loads(made["a_sea_labels.json"])
    assert record["backbone"] == "stand-in" and record["refined"] and record["settings"]["threshold"] == 0.25
    assert record["size"] == [1600, 400] and record["unlabelled"] == pytest.approx(1 / 1280, abs=1e-6)
    assert [(one["texts"], one["absent"]) for one in record["labels"]] == [
        (["sky"], False), (["cat", "kitten"], True), (["grass"], False),
    ]  # fmt: skip


def test_the_legend_and_a_click_say_what_is_where(labeller: Labeller) -> None:
    answer = answered(labeller)
    words = re.sub(r"<[^>]+>", " ", legend(answer))
    assert re.search(r"sky\s+49 %\s+0.75\s+grass\s+49 %\s+1.00\s+cat\s+none\s+0.00 \(taken for absent\)", words)
    assert re.search(r"no label\s+2 %", words)
    assert "2 labels of 3 found in a sea.png." in labels.headline(answer) and "It knows nothing." in labels.headline(
        answer
    )
    scale = 420 // 60  # the picture is shown larger
    assert at_place(answer, (30 * scale, 10 * scale)) == "at 30, 10: sky 0.75, cat 0.00, grass 0.00"
    assert at_place(answer, (30 * scale, 30 * scale)).startswith("at 30, 30: grass 1.00")


def test_the_map_or_the_heat_of_one_label_is_shown_at_one_size(labeller: Labeller) -> None:
    state = Labelling()
    assert draw(state, 0.6) is None
    state.answered(answered(labeller))
    whole = draw(state, 1.0)
    assert whole is not None and whole.getpixel((200, 50)) == colour_of_label(1)
    state.shown = 3
    hot = draw(state, 1.0)
    assert hot is not None and hot.size == whole.size and hot.getpixel((200, 270)) != hot.getpixel((200, 20))
    captions = [text for _, text in labels.thumbnails(state.answer)]  # type: ignore[arg-type]
    assert captions == ["all labels", "sky, up to 0.75", "cat, up to 0.00", "grass, up to 1.00"]


def test_a_label_that_is_looked_at_stays_while_it_is_among_the_labels(labeller: Labeller) -> None:
    state = Labelling()
    state.answered(answered(labeller))
    state.shown = 3
    state.answered(answered(labeller, given=("grass", "sea")))
    assert state.shown == 1
    state.answered(answered(labeller, given=("sea", "sand")))
    assert state.shown == 0


def test_without_the_extra_the_tab_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(doing: str, packages: object) -> None:
        raise InputError(f"{doing} needs timm, which is not installed; pip install 'seg-zero[open-vocabulary]'")

    monkeypatch.setattr(web, "require", refuse)
    said = web.labeller_of(None, None, None)  # type: ignore[arg-type]
    assert isinstance(said, str) and "labelling pixels by text needs timm" in said
    with pytest.raises(InputError, match="needs timm"):
        web.labeller_of("c-radio_v3-b", None, None)  # type: ignore[arg-type]
