"""Labels on the page without a page: the line of users, what is written, what is shown, and the files."""

from __future__ import annotations

import argparse
import base64
import io
import json
import re
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio
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
from seg_zero.web.label_tab import build_label_tab
from seg_zero.web.labels import (
    AERIAL,
    RADIO,
    AerialSettings,
    Asked,
    Labelled,
    Labeller,
    Labelling,
    at_place,
    chips,
    draw,
    legend,
    read_chips,
)
from seg_zero.web.pictures import example_pictures, example_tiles
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


class Tiles:
    """All pixels are the last label; remembers what it was asked."""

    sliding = False

    def __init__(self) -> None:
        self.given = list[Any]()

    def segment(self, image: Image.Image, given: tuple[str, ...], threshold: float) -> LabelledImage:
        self.given.append((given, threshold, self.sliding))
        classes = np.full((image.height, image.width), len(given) - 1, np.int32)
        patches = np.full((len(given), 2, 2), 0.5, np.float32)
        sure, kept = np.ones(classes.shape, np.float32), np.ones(len(given), bool)
        return LabelledImage(image, tuple(parse_labels(given)), patches, kept, classes, sure, threshold)


@pytest.fixture
def halves() -> Halves:
    return Halves()


@pytest.fixture
def labeller(halves: Halves) -> Labeller:
    return Labeller({RADIO: ("stand-in", halves)}, "SAM2", "it knows nothing")  # type: ignore[dict-item, arg-type]


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
    assert record["model"] == "RADIO"
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


def test_each_picture_goes_to_the_model_that_its_settings_are_of(halves: Halves) -> None:
    tiles = Tiles()
    models: dict[str, Any] = {RADIO: ("stand-in", halves), AERIAL: ("network", tiles)}
    labeller = Labeller(models, "SAM2")  # type: ignore[arg-type]
    assert labeller.about == "RADIO: stand-in. Remote sensing: network." and labeller.windows == (192, 64)
    picture = Picture.read("tile.png", encoded(Image.new("RGB", (60, 40), "olive")), Limits())
    asked = Asked(SKY, AerialSettings(sliding=True, threshold=0.25))
    *_, (found, seconds) = labeller.label(picture.view, asked)
    assert tiles.given == [(SKY, 0.25, True)] and not halves.done
    record = json.loads(files(Labelled.of(picture, found, seconds, asked, labeller))["tile_labels.json"])
    assert (record["model"], record["backbone"]) == ("Remote sensing", "network")
    assert record["settings"] == {"sliding": True, "threshold": 0.25} and not record["refined"]
    *_, (found, _) = labeller.label(picture.view, Asked(SKY, Settings()))
    assert found.names[1] == "sky" and len(halves.done) == 1 and len(tiles.given) == 1


def test_a_network_alone_needs_no_backbone() -> None:
    models: dict[str, Any] = {AERIAL: ("network", Tiles())}
    labeller = Labeller(models, "SAM2")  # type: ignore[arg-type]
    assert labeller.about == "Remote sensing: network." and labeller.windows == (336, 224)


@pytest.mark.parametrize("models", [(RADIO,), (AERIAL,), (RADIO, AERIAL)])
def test_the_tab_offers_what_was_given_at_the_start(halves: Halves, models: tuple[str, ...]) -> None:
    known: dict[str, Any] = {RADIO: ("stand-in", halves), AERIAL: ("network", Tiles())}
    labeller = Labeller({model: known[model] for model in models}, "SAM2")  # type: ignore[arg-type]
    with gradio.Blocks() as page:
        build_label_tab(labeller, Limits(), example_pictures(Limits()))
    shown = {one["props"].get("elem_id"): one["props"] for one in page.get_config_file()["components"]}
    assert shown["label-model"]["visible"] is (len(models) == 2) and shown["label-model"]["value"] == models[0]
    for name in ("sliding", "label-refine"):
        assert shown[name]["visible"] is (models[0] == RADIO)
    for name in ("unsure", "label-parts"):
        assert shown[name]["visible"] is (models[0] == AERIAL)
    examples = [one["caption"] for one in shown["label-examples"]["value"]]
    tiles = [caption for caption in examples if "roof" in caption]
    assert len(tiles) == (3 if AERIAL in models else 0) and len(examples) - len(tiles) == (6 if RADIO in models else 0)
    assert ("the first counts" in shown["chips"]["info"]) is (models[0] == AERIAL)


def options(*given: str) -> argparse.Namespace:
    return web.parse(["--device", "cpu", *given])


def test_without_the_extra_the_tab_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(doing: str, packages: object) -> None:
        raise InputError(f"{doing} needs timm, which is not installed; pip install 'seg-zero[open-vocabulary]'")

    monkeypatch.setattr(web, "require", refuse)
    said = web.labeller_of(options(), None)  # type: ignore[arg-type]
    assert isinstance(said, str) and "labelling pixels by text needs timm" in said
    with pytest.raises(InputError, match="needs timm"):
        web.labeller_of(options("--label_backbone", "c-radio_v3-b"), None)  # type: ignore[arg-type]


def test_models_that_were_asked_for_by_name_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "load_backbone", lambda name, device: Halves())
    monkeypatch.setattr(web, "load_remote_sensing", lambda args: Tiles() if args.remote_sensing_model else None)
    network = ("--remote_sensing_model", str(tmp_path))
    for given, names in (
        ((), {RADIO: "tiny"}),
        (network, {AERIAL: tmp_path.name, RADIO: "tiny"}),
        ((*network, "--label_backbone", "c-radio_v3-b"), {RADIO: "c-radio_v3-b", AERIAL: tmp_path.name}),
    ):
        labeller = web.labeller_of(options(*given), None)  # type: ignore[arg-type]
        assert isinstance(labeller, Labeller) and list(labeller.names.items()) == list(names.items())
        assert (labeller.warning_of(RADIO) is None) is (names[RADIO] != "tiny")
        assert labeller.warning_of(AERIAL) is None


def test_models_that_cannot_be_had_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="backbone radio_v9 is no file"):
        web.labeller_of(options("--label_backbone", "radio_v9"), None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"--remote_sensing_model .*nowhere does not exist; give the folder"):
        options("--remote_sensing_model", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"config\.json cannot be read"):
        web.labeller_of(options("--remote_sensing_model", str(tmp_path)), None)  # type: ignore[arg-type]


def test_examples_of_tiles_come_with_the_labels_of_their_world() -> None:
    (tile, words), *others = example_tiles(Limits())
    assert tile.size == (256, 256) and tile.name == "tile_1.png" and len(others) == 2
    assert {"road", "roof", "water"} <= set(words) and others[0][0].data != tile.data
