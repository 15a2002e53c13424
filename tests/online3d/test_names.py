"""Vectors of masks, and what texts make of them: names for all objects, and answers without a policy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.radio import small_folder
from helpers.rooms import ROOM, SETTINGS
from PIL import Image

from seg_zero.cli.main import main
from seg_zero.encoders.spaces import Space
from seg_zero.encoders.text import TextEncoder
from seg_zero.errors import InputError
from seg_zero.online3d.answers.naming import name_all, read_names, write_names
from seg_zero.online3d.answers.texts import name_objects, relevance
from seg_zero.online3d.inputs.features import CropFeatures, DescribedMasks, PatchFeatures, square_crop
from seg_zero.online3d.inputs.frames import Frame
from seg_zero.online3d.inputs.mask_sources import FolderMasks
from seg_zero.online3d.questions import ask_by_text, open_scan
from seg_zero.online3d.results.files import read_result
from seg_zero.online3d.scan import scan
from seg_zero.online3d.synthetic.files import EXACT, write_sequence
from seg_zero.online3d.synthetic.sequence import SyntheticSequence

SEQUENCE = SyntheticSequence(ROOM, 12, 160, 120, turns=0.6)
COLOURS = {"red": (1, 0, 0, 0), "green": (0, 1, 0, 0), "blue": (0, 0, 1, 0), "grey": (0, 0, 0, 1)}


class MeanColours:
    """An image tower whose vectors are mean colours without their grey, and a little grey; white does not count."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, int]] = []

    def encode(self, images: Sequence[Image.Image]) -> torch.Tensor:
        self.shapes += [image.size for image in images]
        pixels = [np.asarray(image, dtype=np.float32).reshape(-1, 3) for image in images]
        means = np.stack([some[some.min(1) < 255].mean(0) for some in pixels])
        grey = np.full((len(means), 1), 20, dtype=np.float32)
        return torch.from_numpy(np.hstack([means - means.min(1, keepdims=True), grey]))


class ColourTexts:
    """A text tower that knows four colours, and nothing in common with other words."""

    name = "colours"

    def encode(self, texts: Sequence[str]) -> torch.Tensor:
        return torch.tensor([COLOURS.get(text, (1, 1, 1, 1)) for text in texts], dtype=torch.float32)


def frame_of(colour: np.ndarray) -> Frame:
    return Frame(0, colour, np.ones(colour.shape[:2], dtype=np.float32), np.eye(3), np.eye(4))


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan whose masks have their mean colours as vectors."""
    folder = tmp_path_factory.mktemp("names")
    write_sequence(SEQUENCE, folder / "room")
    source = DescribedMasks(FolderMasks(folder / "room" / EXACT), CropFeatures(MeanColours()))
    out = folder / "scan"
    scan(folder / "room", out, source, "exact", settings=SETTINGS, features="siglip2:colours", say=lambda _: None)
    return out


def test_a_mask_is_seen_in_three_ever_wider_crops_on_white_squares() -> None:
    colour = np.zeros((100, 200, 3), dtype=np.uint8)
    colour[40:60, 50:90] = (200, 0, 0)
    labels = np.zeros((100, 200), dtype=np.int32)
    labels[40:60, 50:90] = 3
    labels[0:10, 190:200] = 5
    tower = MeanColours()
    found = CropFeatures(tower)(frame_of(colour), labels)
    assert list(found) == [3, 5] and tower.shapes == [(40, 40), (48, 48), (56, 56), (10, 10), (11, 11), (12, 12)]
    assert np.linalg.norm(found[3]) == pytest.approx(1) and found[3].argmax() == 0
    crop = np.asarray(square_crop(Image.fromarray(colour), (slice(40, 60), slice(50, 90)), 0.0))
    assert (crop[:10] == 255).all() and (crop[10:30] == (200, 0, 0)).all() and (crop[30:] == 255).all()
    assert CropFeatures(tower)(frame_of(colour), np.zeros((100, 200), dtype=np.int32)) == {}


def test_patches_of_a_mask_are_averaged_in_the_space_of_the_texts(tmp_path: Path) -> None:
    encoder = Space.parse(f"radio:{small_folder(tmp_path / 'small')}").backbone("cpu")
    colour = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    labels = np.zeros((48, 64), dtype=np.int32)
    labels[:16, 16:32] = 2  # one patch
    labels[16:32, :24] = 7  # one and a half
    found = PatchFeatures(encoder, "siglip2")(frame_of(colour), labels)
    image = torch.from_numpy(colour).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        patches = encoder.adaptor("siglip2").summary(encoder.features(image)[0].permute(1, 2, 0))
        patches = torch.nn.functional.normalize(patches, dim=-1).numpy()
    assert list(found) == [2, 7]
    assert np.allclose(found[2], patches[0, 1], atol=1e-5)
    mixed = patches[1, 0] * 256 + patches[1, 1] * 128
    assert np.allclose(found[7], mixed / np.linalg.norm(mixed), atol=1e-5)


def test_synonyms_share_a_class_and_what_has_no_vector_has_no_name() -> None:
    features = np.array([[1.0, 0], [0, 2], [0, 0]])
    texts = np.array([[1.0, 1], [0, 1], [1, 0.1]])
    chosen, probabilities = name_objects(features, texts, [0, 1, 0])
    assert chosen.tolist() == [0, 1, -1]
    assert probabilities[:2].min() > 0.99 and probabilities[2] == 0


def test_a_text_is_relevant_if_it_fits_better_than_what_fits_anything() -> None:
    features = np.array([[1.0, 0, 0], [0, 1, 0], [1, 0, 1], [0, 0, 0]])
    scores = relevance(features, np.array([1.0, 0, 0]), np.array([[0.0, 1, 0], [1, 0, 1]]))
    assert scores[0] > 0.99 and scores[1] < 0.01 and scores[2] < 0.01 and scores[3] == 0
    assert relevance(features[:1], features[0], features[:1])[0] == pytest.approx(0.5)


def test_objects_are_named_and_asked_for_by_their_vectors(
    scanned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Space, "text_tower", lambda *_: ColourTexts())
    monkeypatch.setattr("seg_zero.encoders.text.templates_named", lambda _: ("{}",))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert main(["scan", "label", str(scanned), "--labels", "red,green,blue,grey"]) == 0
    result = read_result(scanned)
    names = read_names(scanned, result)
    assert names is not None and {"red", "green", "blue"} <= set(names)
    for name, vector in zip(names, result.features, strict=True):
        cosine = {text: vector @ colour / np.linalg.norm(colour) for text, colour in COLOURS.items()}
        assert name == max(cosine, key=lambda text: cosine[text])
    assert f"object 1: {names[0]} " in capsys.readouterr().out
    assert main(["scan", "show", str(scanned)]) == 0
    assert '"label": "red"' in (scanned / "index.html").read_text()
    assert main(["scan", "ask", str(scanned), "red", "--by", "text"]) == 0
    stored = json.loads((scanned / "answers" / "red" / "answer.json").read_text())
    assert stored["frames"] == [] and stored["found"]
    red = {number for number, name in zip(result.numbers.tolist(), names, strict=True) if name == "red"}
    assert set(stored["found"]) <= red
    assert "found by their vectors" in (scanned / "answers" / "red" / "index.html").read_text()


def test_names_survive_the_file_and_a_damaged_one_is_named(scanned: Path, tmp_path: Path) -> None:
    result = read_result(scanned)
    named = name_all(result, ["red", "grey, green"], TextEncoder(ColourTexts(), "none", store=False))
    write_names(tmp_path, named, result, "siglip2:colours")
    assert read_names(tmp_path, result) == named.names and set(named.names) == {"red", "grey"}
    (tmp_path / "labels.json").write_text("{}")
    with pytest.raises(InputError, match=r"labels\.json cannot be read"):
        read_names(tmp_path, result)


def test_a_scan_without_vectors_is_not_named(scanned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(scanned, tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "scan.json").read_text())
    (tmp_path / "out" / "scan.json").write_text(json.dumps({**summary, "features": ""}))
    assert main(["scan", "label", str(tmp_path / "out"), "--labels", "red"]) == 2
    assert "have no vectors; scan again with --features" in capsys.readouterr().err
    with pytest.raises(InputError, match="have no vectors"):
        open_scan(tmp_path / "out").described()
    room = str(scanned.parent / "room")
    assert main(["scan", room, "--out", str(tmp_path / "new"), "--features", "clip:x"]) == 2
    assert "encoder 'clip:x' has no known form" in capsys.readouterr().err


def test_a_question_by_text_checks_its_words_first(scanned: Path) -> None:
    with pytest.raises(InputError, match="question"):
        ask_by_text(open_scan(scanned), " ", TextEncoder(ColourTexts(), "none", store=False))
