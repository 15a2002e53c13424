"""The segmenter: probabilities in the picture's size, one by one or several at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.remote_sensing import SMALL
from PIL import Image

from seg_zero.errors import InputError
from seg_zero.remote_sensing.cost_pictures import cost_pictures, cost_sheet
from seg_zero.remote_sensing.cost_pictures import scaled as unit
from seg_zero.remote_sensing.model.files import save_network
from seg_zero.remote_sensing.model.inference import finished, joined, network_input, scaled
from seg_zero.remote_sensing.model.network import RemoteSensingNetwork
from seg_zero.remote_sensing.segmenter import RemoteSensingSegmenter

LABELS = ["road", "water", "roof"]


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("remote_sensing") / "model"
    save_network(RemoteSensingNetwork(SMALL), place, {"classes": LABELS})
    return place


@pytest.mark.parametrize("sliding", [False, True])
def test_probabilities_have_the_size_of_the_picture(folder: Path, sliding: bool) -> None:
    segmenter = RemoteSensingSegmenter.from_pretrained(folder, "cpu", sliding=sliding)
    found = segmenter.probabilities(picture(30, 47), LABELS)
    assert found.shape == (3, 30, 47) and found.dtype == np.float32
    assert (found > 0).all() and (found < 1).all()
    assert segmenter.classes == tuple(LABELS)


def test_pictures_of_a_batch_do_not_see_each_other(folder: Path) -> None:
    segmenter = RemoteSensingSegmenter.from_pretrained(folder, "cpu")
    pictures = [picture(20, 33, 1), picture(25, 25, 2), picture(20, 33, 3)]
    together = segmenter.probabilities_batch(pictures, LABELS)
    for one, found in zip(pictures, together, strict=True):
        np.testing.assert_allclose(segmenter.probabilities(one, LABELS), found, atol=1e-5)


@pytest.mark.parametrize("sliding", [False, True])
def test_half_precision_changes_the_probabilities_little(folder: Path, sliding: bool) -> None:
    full, half = (
        RemoteSensingSegmenter.from_pretrained(folder, "cpu", sliding=sliding, dtype=name)
        for name in ("float32", "bfloat16")
    )
    exact, found = (one.probabilities(picture(20, 33), LABELS) for one in (full, half))
    assert found.dtype == np.float32
    assert 0 < np.abs(found - exact).max() < 0.02
    np.testing.assert_array_equal(full.probabilities(picture(20, 33), LABELS), exact)


def test_an_unknown_precision_is_named(folder: Path) -> None:
    with pytest.raises(InputError, match="dtype 'int8' is unknown"):
        RemoteSensingSegmenter.from_pretrained(folder, "cpu", dtype="int8")


def test_labels_are_asked_again_for_another_list(folder: Path) -> None:
    segmenter = RemoteSensingSegmenter.from_pretrained(folder, "cpu")
    first = segmenter.probabilities(picture(20, 20), LABELS)
    other = segmenter.probabilities(picture(20, 20), ["sea"])
    assert other.shape == (1, 20, 20)
    np.testing.assert_array_equal(segmenter.probabilities(picture(20, 20), LABELS), first)


@pytest.mark.parametrize(
    ("shape", "kind"), [((4, 4), "uint8"), ((4, 4, 4), "uint8"), ((4, 4, 3), "float64"), ((0, 4, 3), "uint8")]
)
def test_pictures_of_another_kind(folder: Path, shape: tuple[int, ...], kind: str) -> None:
    image = np.zeros(shape, kind)
    with pytest.raises(InputError, match="give H x W x 3 of uint8"):
        RemoteSensingSegmenter.from_pretrained(folder, "cpu").probabilities(image, LABELS)


def test_names_alike_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="differ only in case"):
        RemoteSensingSegmenter.from_pretrained(folder, "cpu").probabilities(picture(8, 8), ["Road", "road"])


@pytest.mark.parametrize(
    ("size", "wanted"), [((100, 200), (640, 1280)), ((3000, 1500), (1280, 640)), ((100, 1000), (256, 2560))]
)
def test_pictures_are_scaled_to_a_short_side_of_640(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    assert scaled(picture(*size)).shape[:2] == wanted


def test_padding_is_a_matter_of_the_published_code_alone() -> None:
    pixels = torch.ones(1, 3, 50, 70)
    assert network_input(pixels, lambda p: p, "ours").shape == (1, 3, 50, 70)
    padded = network_input(pixels, lambda p: p, "released")
    assert padded.shape == (1, 3, 64, 96) and not padded[:, :, 50:].any() and not padded[:, :, :, 70:].any()


def test_a_border_stays_where_it_is_unless_as_released() -> None:
    logits = torch.full((1, 1, 24, 24), -20.0)
    logits[..., 12:] = 20.0  # the right half
    ours = finished(logits, (12, 200), (48, 48))
    assert (ours[0, 0, :, 25:] > 0.5).all() and (ours[0, 0, :, :23] < 0.5).all()
    released = finished(logits, (12, 16), (48, 48), "released")
    assert (released[0, 0, 0] > 0.5).sum() < 20  # cut to 16 of 24 columns


def test_equal_windows_join_to_themselves() -> None:
    found = joined(torch.full((5, 2, 24, 24), 0.3))
    assert found.shape == (1, 2, 640, 640)
    assert torch.allclose(found, torch.full_like(found, 0.3).sigmoid(), atol=1e-6)


@pytest.mark.parametrize("sliding", [False, True])
def test_a_labelled_picture_says_what_the_probabilities_say(folder: Path, sliding: bool) -> None:
    segmenter = RemoteSensingSegmenter.from_pretrained(folder, "cpu", sliding=sliding)
    image = picture(30, 47)
    expected = segmenter.probabilities(image, LABELS)
    found = segmenter.segment(image, ["road, street", "water", "roof"])
    assert found.names == ["none", *LABELS] and found.label_map.shape == (30, 47)
    np.testing.assert_array_equal(found.label_map, expected.argmax(axis=0) + 1)
    np.testing.assert_allclose(found.confidence, expected.max(axis=0), atol=1e-6)
    np.testing.assert_allclose(found.probabilities(), expected, atol=1e-6)
    unsure = segmenter.segment(image, LABELS, threshold=float(np.median(found.confidence)))
    np.testing.assert_array_equal(unsure.label_map == 0, found.confidence < unsure.threshold)
    assert 0 < (unsure.label_map == 0).mean() < 1


def test_a_labelled_picture_takes_files_and_refuses_repeated_labels(folder: Path, tmp_path: Path) -> None:
    segmenter = RemoteSensingSegmenter.from_pretrained(folder, "cpu")
    Image.fromarray(picture(20, 24)).save(tmp_path / "tile.png")
    assert segmenter.segment(tmp_path / "tile.png", ["sea"]).label_map.tolist() == [[1] * 24] * 20
    with pytest.raises(InputError, match="'Sea' is given twice"):
        segmenter.segment(tmp_path / "tile.png", ["sea", "Sea"])


def test_cost_maps_and_their_pictures(folder: Path) -> None:
    segmenter = RemoteSensingSegmenter.from_pretrained(folder, "cpu")
    costs = segmenter.cost_maps(picture(40, 60), LABELS)
    assert costs.shape == (5, 3, 4, 4) and np.abs(costs).max() <= 1 + 1e-6
    drawn = cost_pictures(picture(40, 60), costs, LABELS)
    assert len(drawn) == 3 and drawn[0].size == drawn[1].size
    with pytest.raises(InputError, match="2 names for cost maps of 3 texts"):
        cost_pictures(picture(40, 60), costs, LABELS[:2])
    sheet = cost_sheet(picture(40, 60), costs, LABELS)
    row = cost_pictures(picture(40, 60), costs, LABELS, columns=6)[1]
    assert sheet.size == (row.width, 3 * row.height), "a row for each label: the tile, four directions, DINO"
    np.testing.assert_array_equal(np.asarray(sheet)[row.height : 2 * row.height], np.asarray(row))


def test_equal_cost_maps_can_be_drawn() -> None:
    assert not unit(np.full((5, 1, 4, 4), 0.3, np.float32)).any()
    np.testing.assert_allclose(unit(np.array([-1.0, 0.0, 1.0])), [0, 0.5, 1])
    assert len(cost_pictures(picture(8, 8), np.zeros((1, 2, 4, 4), np.float32), ["road", "sea"])) == 2
