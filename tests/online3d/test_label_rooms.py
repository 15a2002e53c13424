"""Voxels labelled by text: lifting of feature maps, votes of neighbours, mIoU of a room, and the command."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.rooms import ROOM
from PIL import Image

from seg_zero.cli.label import evaluate3d
from seg_zero.cli.main import main
from seg_zero.errors import InputError
from seg_zero.metrics.semantic import Confusion
from seg_zero.online3d.inputs.frames import Frame
from seg_zero.online3d.inputs.loaders.layouts import open_sequence
from seg_zero.online3d.semantic.judge import (
    NONE,
    Judged3d,
    Protocol,
    judge_sequence,
    label_voxels,
    labels_at,
    table,
)
from seg_zero.online3d.semantic.lifting import FeatureVoxels, bilinear
from seg_zero.online3d.surface import back_project
from seg_zero.online3d.synthetic.files import TRUTH, read_truth, write_sequence
from seg_zero.online3d.synthetic.sequence import SyntheticSequence
from seg_zero.online3d.voxels import voxel_keys
from seg_zero.open_vocabulary.settings import Settings

SEQUENCE = SyntheticSequence(ROOM, 10, 160, 120, turns=0.6)
THINGS = [thing for thing in ROOM.things if thing.identity >= 3000]  # floor and walls have no hue
NAMES = {f"thing {number}": thing for number, thing in enumerate(THINGS, 1)}
CLASSES = {name: number for number, name in enumerate(NAMES, 1)}


def hue(colours: np.ndarray) -> np.ndarray:
    """... x 3 colours to ... x 4: without their grey, and a little grey."""
    colours = np.asarray(colours, dtype=np.float32)
    grey = np.full((*colours.shape[:-1], 1), 5, dtype=np.float32)
    return np.concatenate([colours - colours.min(-1, keepdims=True), grey], axis=-1)


class Colours:
    """A segmenter whose features are the mean colours of cells of 4 pixels, and whose texts are colours of things."""

    def __init__(self, refiner: object = None) -> None:
        self.encoder, self.refiner = SimpleNamespace(device=torch.device("cpu")), refiner
        self.settings = Settings(threshold=0.1)

    def prepare(self, picture: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float()

    def features(self, images: torch.Tensor) -> torch.Tensor:
        small = F.avg_pool2d(images, 4)[0].permute(1, 2, 0).numpy()
        return torch.from_numpy(hue(small)).permute(2, 0, 1)[None]

    def project(self, features: torch.Tensor) -> torch.Tensor:
        return features

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        grey = np.array([0, 0, 0, 1.0], dtype=np.float32)
        return torch.from_numpy(np.stack([hue(NAMES[t].colour) if t in NAMES else grey for t in texts])).float()

    def segment(self, picture: Image.Image, labels: Sequence[str]) -> Any:
        found = self.features(self.prepare(picture)[None])
        cosines = F.normalize(found, dim=1)[0].permute(1, 2, 0) @ F.normalize(self.encode_texts(labels), dim=1).T
        probabilities = (100 * cosines).softmax(-1).permute(2, 0, 1)[None]
        full = F.interpolate(probabilities, size=picture.size[::-1], mode="bilinear")
        return SimpleNamespace(probabilities=lambda: full[0].numpy())


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sequence in whose truth every thing is a class of its own."""
    folder = tmp_path_factory.mktemp("room") / "one"
    write_sequence(SEQUENCE, folder)
    truth = read_truth(folder / TRUTH)
    ids = np.zeros_like(truth.ids)
    for number, thing in enumerate(THINGS, 1):
        ids[truth.ids == thing.identity] = 1000 * number + 1
    np.savez(folder / TRUTH, points=truth.points, ids=ids)
    return folder


@pytest.mark.parametrize(("size", "small"), [((7, 9), (3, 4)), ((6, 4), (6, 4)), ((5, 5), (1, 1)), ((4, 6), (8, 3))])
def test_weights_of_cells_are_those_of_a_bilinear_resize(size: tuple[int, int], small: tuple[int, int]) -> None:
    cells = np.random.default_rng(0).random((*small, 2)).astype(np.float32)
    pixels = np.arange(size[0] * size[1])[::2]
    expected = F.interpolate(torch.from_numpy(cells).permute(2, 0, 1)[None], size=size, mode="bilinear")[0]
    found = bilinear(size, small, pixels) @ cells.reshape(-1, 2)
    assert np.allclose(found, expected.flatten(1).T.numpy()[pixels], atol=1e-6)


def test_a_voxel_has_the_mean_of_all_pixels_in_it() -> None:
    voxels, total, counts = FeatureVoxels(0.1), dict[tuple, np.ndarray](), dict[tuple, int]()
    for row in (0, 1, 4):
        frame = SEQUENCE.frame(row)
        features = np.random.default_rng(row).random((15, 20, 3)).astype(np.float32)
        voxels.add(frame, features)
        full = F.interpolate(torch.from_numpy(features).permute(2, 0, 1)[None], size=frame.depth.shape, mode="bilinear")
        pixels = full[0].permute(1, 2, 0).numpy()[frame.depth > 0]
        for key, value in zip(
            voxel_keys(back_project(frame.depth, frame.intrinsics, frame.pose), 0.1).tolist(), pixels, strict=True
        ):
            total[tuple(key)] = total.get(tuple(key), 0) + value
            counts[tuple(key)] = counts.get(tuple(key), 0) + 1
    assert len(voxels) == len(total) == len(voxels.means)
    for centre, mean in zip(voxels.centres, voxels.means, strict=True):
        key = tuple(np.floor(centre / 0.1).astype(int).tolist())
        assert np.allclose(mean, total[key] / counts[key], atol=1e-4)


def test_the_nearest_voxels_vote_and_the_lowest_label_wins_a_tie() -> None:
    voxels = FeatureVoxels(1.0)
    depth = np.full((1, 5), 0.5, dtype=np.float32)
    camera = np.array([[0.5, 0, 0], [0, 0.5, 0], [0, 0, 1]])  # pixels one metre apart
    voxels.add(Frame(0, np.zeros((1, 5, 3), np.uint8), depth, camera, np.eye(4)), np.zeros((1, 5, 1)))
    assert voxels.centres[:, 0].tolist() == [0.5, 1.5, 2.5, 3.5, 4.5]
    found = np.array([2, 2, 0, 1, NONE])
    points = np.array([[0.5, 0.5, 0.5], [2.5, 0.5, 0.5], [4.4, 0.5, 0.5], [90, 0, 0]])
    assert labels_at(voxels, found, points, 1).tolist() == [2, 0, NONE, NONE]
    assert labels_at(voxels, found, points, 2)[0] == 2
    assert labels_at(voxels, found, points, 3).tolist()[:2] == [2, 0], "2, 0 and 1 are level, 0 is lowest"
    assert labels_at(voxels, found, points, 5).tolist() == [2, 2, 2, 2]
    assert labels_at(voxels, found, points, 50).tolist() == [2, 2, 2, 2]
    assert labels_at(voxels, found, points, 0).tolist() == [2, 0, NONE, NONE]


def test_labels_that_are_nowhere_sure_and_voxels_below_the_threshold_have_none() -> None:
    segmenter = Colours()
    red, none = hue(np.array(THINGS[0].colour)), np.array([0, 0, 0, 1.0], dtype=np.float32)
    means = np.stack([red, none]).astype(np.float32)
    labels = ["thing 1", "wall", "floor", "roof"]
    assert label_voxels(segmenter, means, labels).tolist() == [0, NONE], "three are level at 0.33"  # type: ignore[arg-type]
    segmenter.settings = Settings(denoising=0.0, threshold=0.1)
    assert label_voxels(segmenter, means, labels).tolist() == [0, 1]  # type: ignore[arg-type]
    segmenter.settings = Settings(denoising=0.0, threshold=0.6)
    assert label_voxels(segmenter, means, labels).tolist() == [0, NONE]  # type: ignore[arg-type]


@pytest.mark.parametrize("refiner", [None, "SAM2"])
def test_a_room_is_labelled_and_judged(room: Path, refiner: str | None) -> None:
    said: list[str] = []
    judged = judge_sequence(
        Colours(refiner), open_sequence(room), read_truth(room / TRUTH), CLASSES, Protocol(0.05), said.append  # type: ignore[arg-type]
    )  # fmt: skip
    result = judged.result()
    assert result["mIoU"] > 0.9 and result["pACC"] > 0.95, result
    assert judged.frames == len(said) == 10 and not judged.problems
    wrong = {name: CLASSES[name] % len(CLASSES) + 1 for name in CLASSES}
    mixed = judge_sequence(Colours(refiner), open_sequence(room), read_truth(room / TRUTH), wrong)  # type: ignore[arg-type]
    assert mixed.result()["mIoU"] < 0.1


def test_what_is_not_among_the_classes_does_not_count(room: Path) -> None:
    truth = read_truth(room / TRUTH)
    some = {"thing 1": 1, "thing 2": 2, "ghost": 77}
    judged = judge_sequence(Colours(), open_sequence(room), truth, some)  # type: ignore[arg-type]
    cells = judged.confusion.matrix.sum()
    assert 0 < cells <= np.isin(truth.ids // 1000, [1, 2]).sum()
    assert np.isnan(judged.confusion.iou("detectron2")[2]), "the truth has no ghosts"


def test_damaged_frames_are_left_out_and_named(room: Path, tmp_path: Path) -> None:
    write_sequence(SyntheticSequence(ROOM, 2, 80, 60), tmp_path / "bad")
    (tmp_path / "bad/depth/0.png").write_bytes(b"")
    truth = read_truth(room / TRUTH)
    judged = judge_sequence(Colours(), open_sequence(tmp_path / "bad"), truth, CLASSES)  # type: ignore[arg-type]
    assert judged.frames == 1 and "frame 0" in judged.problems[0]
    (tmp_path / "bad/depth/10.png").write_bytes(b"")
    with pytest.raises(InputError, match="none of 2 frames can be used; the first: frame 0"):
        judge_sequence(Colours(), open_sequence(tmp_path / "bad"), truth, CLASSES)  # type: ignore[arg-type]


def test_the_table_has_sequences_all_together_and_classes() -> None:
    one, two = (Judged3d(Confusion(2, ignore=NONE), frames=3) for _ in range(2))
    one.confusion.add(np.array([0, 0]), np.array([0, NONE]))
    two.confusion.add(np.array([1, 0]), np.array([0, 0]))
    text, total = table({"a": one, "b": two}, {"chair": 1, "sofa": 2})
    assert "| a | 1.0000 |" in text and "| b | 0.5000 |" in text and "| all | 0.6667 |" in text
    assert "| chair | 0.6667 |" in text and "| sofa | absent |" in text and total.matrix.sum() == 3


def test_the_command_writes_numbers(
    room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluate3d, "load_labeller", lambda *_: Colours())
    (tmp_path / "classes.json").write_text(json.dumps(CLASSES))
    words = [
        "label",
        "evaluate3d",
        str(room),
        "--classes",
        str(tmp_path / "classes.json"),
        "--out",
        str(tmp_path / "o"),
    ]
    assert main([*words, "--every", "20", "--quiet"]) == 0
    stored = json.loads((tmp_path / "o/metrics.json").read_text())
    assert stored["together"]["mIoU"] > 0.9 and stored["sequences"][str(room)]["frames"] == 5
    assert "| class | IoU |" in capsys.readouterr().out and (tmp_path / "o/summary.md").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--voxel_size", "0"], "voxel_size 0 is outside"),
        (["--every", "0"], "every 0 is below 1"),
        (["--neighbours", "-1"], "neighbours -1 is outside"),
        (["--truth", "gone.npz"], "gone.npz does not exist"),
        (["--classes", "gone.json"], "gone.json holds no classes"),
        (["--crop", "330"], "crop 330 is no multiple of 16"),
    ],
)
def test_bad_input_is_one_line(
    room: Path, words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "classes.json").write_text(json.dumps(CLASSES))
    given = ["--classes", str(tmp_path / "classes.json"), "--out", str(tmp_path / "out"), *words]
    assert main(["label", "evaluate3d", str(room), *given]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_one_truth_is_not_for_two_sequences(room: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = str(room / TRUTH)
    assert main(["label", "evaluate3d", str(room), str(room), "--classes", "c.json", "--truth", truth]) == 2
    assert "is of one sequence, but 2 were given" in capsys.readouterr().err
