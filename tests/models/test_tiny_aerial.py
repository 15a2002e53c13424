"""Encoders for the synthetic aerial world: what they learn from, a seeded script that goes on, what is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.remote_sensing import SMALL, small

from seg_zero.encoders.dense_clip import VisionSettings
from seg_zero.errors import InputError
from seg_zero.models.tiny_aerial import clip, dino, train, views
from seg_zero.models.tiny_aerial.measure import chance, confusion_of, measure, result_of, table
from seg_zero.remote_sensing.data.aerial.sensors import SENSORS
from seg_zero.remote_sensing.data.aerial.tiles import AerialTiles
from seg_zero.remote_sensing.data.aerial.world import CLASSES, OTHER_NAMES, TRAINED
from seg_zero.remote_sensing.model.files import Pretrained, new_network
from seg_zero.remote_sensing.model.texts import tokeniser

FILES = ("clip", "remote", "dino")
THIN = small(
    clip=replace(SMALL.clip, text_length=20, vocabulary=1026),
    remote=VisionSettings(native=32, side=64, patch=16, width=16, layers=2, taken=(0, 1), heads=2),
)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little to learn from."""
    monkeypatch.setattr(views, "POOL", 2)
    monkeypatch.setattr(clip, "BATCH", 2)
    monkeypatch.setattr(dino, "BATCH", 2)
    monkeypatch.setattr(clip, "rarity", lambda: np.ones(len(CLASSES)))


def test_every_class_has_its_own_words() -> None:
    words = [word for some in views.WORDS.values() for word in some]
    assert list(views.WORDS) == list(CLASSES) and len(words) == len(set(words))
    assert all({name, OTHER_NAMES[name]} <= set(views.WORDS[name]) for name in CLASSES)
    assert len({tuple(clip.wording(step)) for step in range(8)}) > 1 and clip.wording(3) == clip.wording(3)


def test_cameras_are_none_of_the_sensors_and_crops_are_seeded(few: None) -> None:
    cameras = [views.random_camera(np.random.default_rng(seed)) for seed in range(20)]
    assert not {camera.name for camera in cameras} & set(SENSORS)
    assert all(camera.matrix.shape == (3, 3) and 0.4 <= camera.metres <= 1 for camera in cameras)
    pixels, labels = views.crops(2, 5, 1)
    assert pixels.shape == (2, 3, 96, 96) and labels.shape == (2, 96, 96) and labels.max() < len(CLASSES)
    assert torch.equal(views.crops(2, 5, 1)[0], pixels) and not torch.equal(views.crops(2, 6, 1)[0], pixels)


def test_a_small_vocabulary_has_the_first_merges() -> None:
    small, whole = tokeniser(1026), tokeniser(49408)
    assert (small.vocab_size, small.sot_token_id, small.eot_token_id) == (1026, 1024, 1025)
    assert whole.eot_token_id == 49407 and len(whole.encode("swimming pool")) == 2
    pieces = small.encode("swimming pool")
    assert max(pieces) < 1024 and small.decode(pieces).strip() == "swimming pool"
    assert small(["road"], context_length=8)[0, 0] == 1024
    for vocabulary in (513, 49409):
        with pytest.raises(InputError, match=f"clip.vocabulary={vocabulary} is not from 514 to 49408"):
            tokeniser(vocabulary)


def test_assignments_are_balanced() -> None:
    torch.manual_seed(0)
    found = dino.balanced(torch.randn(400, 8) + torch.arange(8.0), rounds=30)
    assert torch.allclose(found.sum(1), torch.ones(400), atol=1e-4)
    assert torch.allclose(found.sum(0), torch.full((8,), 50.0), rtol=0.05)


def test_contrast_is_least_for_the_words_of_what_is_there() -> None:
    text = torch.eye(len(CLASSES))
    labels = np.zeros((1, 8, 8), np.uint8)
    labels[:, :, 4:] = 6
    right = torch.eye(len(CLASSES))[torch.tensor([[0, 6], [0, 6]])].permute(2, 0, 1)[None]
    weights = np.ones(len(CLASSES))
    assert clip.contrast(right, text, labels, weights) < 0.01 < clip.contrast(-right, text, labels, weights)
    # A patch that a class covers by half belongs to it by half, or by more, if the class is rare.
    labels[:, :, 2:4] = 6
    weights[6] = 9
    rare = torch.eye(len(CLASSES))[torch.full((2, 2), 6)].permute(2, 0, 1)[None]
    assert clip.contrast(rare, text, labels, weights) < clip.contrast(right, text, labels, weights)


def test_the_script_makes_files_that_load_and_goes_on_where_it_stopped(
    few: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "settings", lambda: THIN)
    steps = dict.fromkeys(FILES, 2)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train.train(whole, FILES, steps)
    files = {name: whole / f"{name}.safetensors" for name in FILES}
    assert set(whole.iterdir()) == set(files.values())
    new_network(THIN, Pretrained(*map(str, files.values())))
    assert not train.train(parts, ("clip",), steps, minutes=0) and (parts / "clip_progress.pt").is_file()
    assert train.train(parts, ("clip",), steps)
    assert not train.train(parts, ("dino",), steps, minutes=0)
    assert train.train(parts, FILES, steps)
    assert all((parts / file.name).read_bytes() == file.read_bytes() for file in files.values())
    with pytest.raises(InputError, match="--parts 'sam' is unknown; choose from clip, remote, dino"):
        train.main(["--out", str(tmp_path), "--parts", "sam"])


class Truth:
    """A labeller that knows the tiles, whichever way they are turned."""

    def __init__(self, tiles: AerialTiles) -> None:
        self.known = {
            np.rot90(tiles.image(i), turns).tobytes(): np.rot90(tiles.labels(i), turns)
            for i in range(len(tiles))
            for turns in range(4)
        }

    def probabilities(self, image: np.ndarray, labels: Sequence[str]) -> np.ndarray:
        return np.eye(len(labels), dtype=np.float32)[self.known[image.tobytes()] % len(labels)].transpose(2, 0, 1)


def test_measures_turn_labels_back_and_part_the_classes() -> None:
    tiles = AerialTiles("satellite", 6, size=64)
    for turns in range(4):
        matrix = confusion_of(Truth(tiles), tiles, turns).matrix
        assert matrix.trace() == matrix.sum() == 6 * 64 * 64
    found = measure(Truth(tiles), tiles)
    assert found.mean == found.trained == 1 and 0 < found.chance < 0.2
    confusion = confusion_of(Truth(tiles), tiles)
    confusion.matrix[:] = 0
    confusion.matrix[[0, 5], [0, 0]] = 50, 50  # what was never trained is taken for grass
    parted = result_of(confusion, CLASSES)
    assert (parted.trained, parted.unseen) == (0.5, 0.0)
    assert "| the other sensor, all classes | 1.000 | 1.000 |" in table({"satellite_transfer": found})
    with pytest.raises(InputError, match="tiles have 2 classes; the world has 5 or 8"):
        measure(Truth(tiles), AerialTiles("plane", 1, size=48, kept=TRAINED[:2]))


def test_labels_at_random_score_what_chance_says() -> None:
    truth = np.repeat(np.arange(4), [10_000, 20_000, 30_000, 40_000])
    guess = np.random.default_rng(0).integers(0, 8, len(truth))
    wanted = [((truth == k) & (guess == k)).sum() / ((truth == k) | (guess == k)).sum() for k in range(4)]
    assert np.allclose(chance(np.array([0.1, 0.2, 0.3, 0.4]), 8), wanted, atol=0.01)
