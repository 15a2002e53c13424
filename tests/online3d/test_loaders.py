"""Loaders of all layouts on folders made for the purpose, and what they do with bad input."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seg_zero.cli.scan import LAYOUT_NAMES
from seg_zero.errors import InputError
from seg_zero.online3d.inputs.frames import BadFrame, Frame
from seg_zero.online3d.inputs.loaders.layouts import LAYOUTS, layout_of, open_sequence, sequences_in
from seg_zero.online3d.inputs.mask_sources import AutomaticMasks, FolderMasks

POSE = np.array([[0.0, -1, 0, 1.5], [1, 0, 0, 2.5], [0, 0, 1, 3.5], [0, 0, 0, 1]])
TEXT = "\n".join(" ".join(str(value) for value in row) for row in POSE)
CAMERA = "100 0 31.5\n0 100 23.5\n0 0 1\n"
WIDTH, HEIGHT = 64, 48


def write_pictures(colour: Path, depth: Path, scale: float) -> None:
    """Red colour, 2 m everywhere but for one pixel of 65535 and one of 0."""
    for path in (colour, depth):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (WIDTH, HEIGHT), (200, 30, 10)).save(colour)
    values = np.full((HEIGHT, WIDTH), 2 * scale, dtype=np.uint16)
    values[20, 20], values[20, 21] = 65535, 0
    Image.fromarray(values).save(depth)


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def seven_scenes(root: Path) -> None:
    for number in (0, 10, 20, 30):
        stem = f"frame-{number:06d}"
        write_pictures(root / f"{stem}.color.png", root / f"{stem}.depth.png", 1000)
        write_text(root / f"{stem}.pose.txt", TEXT)
    write_text(root / "camera-intrinsics.txt", CAMERA)


def scannet(root: Path) -> None:
    for number in (0, 10, 20, 30):
        write_pictures(root / "color" / f"{number}.jpg", root / "depth" / f"{number}.png", 1000)
        write_text(root / "pose" / f"{number}.txt", TEXT)
    write_text(root / "intrinsic" / "intrinsic_depth.txt", "100 0 31.5 0\n0 100 23.5 0\n0 0 1 0\n0 0 0 1\n")


def scenenn(root: Path) -> None:
    for number in (1, 21, 41, 61):
        write_pictures(root / "image" / f"image{number:05d}.png", root / "depth" / f"depth{number:05d}.png", 1000)
    write_text(root / "trajectory.log", "\n".join(f"0 0 {number}\n{TEXT}" for number in (1, 21, 41, 61)))


def tum(root: Path) -> None:
    colour, depth, truth = ["# time name"], ["# time name"], ["# time pose"]
    for number in range(31):
        time = 100 + number / 30
        write_pictures(root / "rgb" / f"{time:.6f}.png", root / "depth" / f"{time:.6f}.png", 5000)
        colour.append(f"{time:.6f} rgb/{time:.6f}.png")
        depth.append(f"{time + 0.004:.6f} depth/{time:.6f}.png")
        truth.append(f"{time - 0.002:.6f} 1.5 2.5 3.5 0 0 0.70710678 0.70710678")
    for name, lines in (("rgb.txt", colour), ("depth.txt", depth), ("groundtruth.txt", truth)):
        write_text(root / name, "\n".join(lines))


def replica(root: Path) -> None:
    for number in range(0, 31, 10):
        stem = f"{number:06d}"
        write_pictures(root / "results" / f"frame{stem}.jpg", root / "results" / f"depth{stem}.png", 6553.5)
    row = " ".join(str(value) for value in POSE.reshape(-1))
    write_text(root / "traj.txt", "\n".join([row] * 31))
    camera = {"w": 64, "h": 48, "fx": 100, "fy": 100, "cx": 31.5, "cy": 23.5, "scale": 6553.5}
    write_text(root / "cam_params.json", json.dumps({"camera": camera}))


def custom(root: Path) -> None:
    for number in (0, 20, 40, 60):
        write_pictures(root / "color" / f"{number}.jpg", root / "depth" / f"{number}.png", 1000)
        write_text(root / "poses" / f"{number}.txt", TEXT)
    write_text(root / "intrinsic_depth.txt", CAMERA)


MAKERS: dict[str, Callable[[Path], None]] = {
    "7-scenes": seven_scenes,
    "scannet": scannet,
    "scenenn": scenenn,
    "tum": tum,
    "replica": replica,
    "folder": custom,
}


def frames_of(root: Path, interval: int | None = None) -> list[Frame]:
    sequence = open_sequence(root)
    keys = sequence.key_frames(interval or sequence.settings.get("seg_add_interval", 10))
    return [sequence.read(key) for key in keys]


def test_every_layout_has_a_test_and_an_option() -> None:
    assert set(MAKERS) == set(LAYOUTS) == set(LAYOUT_NAMES)


@pytest.mark.parametrize("name", MAKERS)
def test_frames_of_every_layout(name: str, tmp_path: Path) -> None:
    MAKERS[name](tmp_path)
    assert layout_of(tmp_path) == name
    frames = frames_of(tmp_path)
    assert len(frames) == 4
    for frame in frames:
        cut = 10 if name == "scannet" else 0
        assert frame.depth.shape == (HEIGHT - 2 * cut, WIDTH - 2 * cut) and frame.crop == cut
        assert np.abs(frame.depth.max() - 2.0) < 1e-3 and frame.depth[20 - cut, 20 - cut] == 0
        assert (frame.depth == 0).sum() == 2
        assert frame.colour[5, 5, 0] > 180 and frame.colour[5, 5, 2] < 40  # red comes first
        assert np.allclose(frame.pose, POSE, atol=1e-6)
        if name not in ("tum", "scenenn"):
            assert frame.intrinsics[0, 2] == 31.5 - cut and frame.intrinsics[1, 2] == 23.5 - cut


def test_frames_are_in_the_order_of_their_numbers_and_not_of_their_names(tmp_path: Path) -> None:
    for number in (9, 10):
        write_pictures(tmp_path / "image" / f"{number}.png", tmp_path / "depth" / f"{number}.png", 1000)
    write_text(tmp_path / "trajectory.log", "\n".join(f"0 0 {number}\n{TEXT}" for number in (9, 10)))
    assert [frame.number for frame in open_sequence(tmp_path, "scenenn").frames] == [9, 10]


def damage_corrupt_depth(root: Path) -> None:
    path = root / "depth" / "20.png"
    path.write_bytes(path.read_bytes()[:60])


def damage_corrupt_colour(root: Path) -> None:
    (root / "color" / "20.jpg").write_bytes(b"no picture")


def damage_missing_depth(root: Path) -> None:
    (root / "depth" / "20.png").unlink()


def damage_empty_depth(root: Path) -> None:
    Image.fromarray(np.zeros((HEIGHT, WIDTH), dtype=np.uint16)).save(root / "depth" / "20.png")


def damage_other_size(root: Path) -> None:
    Image.fromarray(np.full((40, 80), 2000, dtype=np.uint16)).save(root / "depth" / "20.png")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damage_corrupt_depth, "20.png cannot be read"),
        (damage_corrupt_colour, "20.jpg cannot be read"),
        (damage_missing_depth, "there is no depth picture|cannot be read"),
        (damage_empty_depth, "holds no depth"),
        (damage_other_size, "colour is 64x48 and depth 80x40 pixels"),
    ],
)
def test_bad_frames_are_named(damage: Callable[[Path], None], words: str, tmp_path: Path) -> None:
    custom(tmp_path)
    damage(tmp_path)
    sequence = open_sequence(tmp_path)
    keys = sequence.key_frames(20)
    with pytest.raises(BadFrame, match=f"frame 20: .*({words})"):
        sequence.read(keys[1])
    assert all(sequence.read(key).number != 20 for key in (keys[0], keys[2], keys[3]))


def test_colour_of_the_same_shape_is_made_as_large_as_depth(tmp_path: Path) -> None:
    custom(tmp_path)
    Image.new("RGB", (WIDTH * 2, HEIGHT * 2), (200, 30, 10)).save(tmp_path / "color" / "20.jpg")
    assert frames_of(tmp_path)[1].colour.shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("bad", ["nan " * 16, "", "not numbers", "1 0 0\n0 1 0", "inf 0 0 0\n" * 4])
def test_an_invalid_pose_is_replaced_by_the_last_valid_one(bad: str, tmp_path: Path) -> None:
    custom(tmp_path)
    write_text(tmp_path / "poses" / "40.txt", bad)
    write_text(tmp_path / "poses" / "0.txt", bad)
    keys = open_sequence(tmp_path).key_frames(20)
    assert [key.borrowed for key in keys] == [True, False, True, False]
    assert keys[0].pose is None and np.allclose(np.asarray(keys[2].pose), POSE)
    with pytest.raises(BadFrame, match="frame 0: no valid pose so far"):
        open_sequence(tmp_path).read(keys[0])


def test_gaps_in_the_numbering_are_told(tmp_path: Path) -> None:
    custom(tmp_path)
    assert open_sequence(tmp_path).gaps() == ""
    for folder, suffix in (("color", "jpg"), ("depth", "png"), ("poses", "txt")):
        (tmp_path / folder / f"20.{suffix}").unlink()
    sequence = open_sequence(tmp_path)
    assert sequence.gaps() == "1 gap(s) in the numbering: frames 0 to 40"
    assert [key.number for key in sequence.key_frames(20)] == [0, 40, 60]


def remove_intrinsics(root: Path) -> None:
    (root / "intrinsic_depth.txt").unlink()


def remove_colour(root: Path) -> None:
    shutil.rmtree(root / "color")
    (root / "color").mkdir()


def remove_poses(root: Path) -> None:
    for path in (root / "poses").iterdir():
        path.write_text("nan")


def spoil_intrinsics(root: Path) -> None:
    (root / "intrinsic_depth.txt").write_text("1 2\n3 4\n")


def remove_everything(root: Path) -> None:
    shutil.rmtree(root / "poses")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (remove_intrinsics, "intrinsic_depth.txt does not exist"),
        (spoil_intrinsics, "a camera has 3 x 3"),
        (remove_colour, "holds no frames of the layout folder"),
        (remove_poses, "none of 4 key frames has a valid pose"),
        (remove_everything, "has none of the layouts"),
    ],
)
def test_what_no_run_could_use_is_an_error_at_once(damage: Callable[[Path], None], words: str, tmp_path: Path) -> None:
    custom(tmp_path)
    damage(tmp_path)
    with pytest.raises(InputError, match=words):
        open_sequence(tmp_path).key_frames(20)


def test_a_wrong_layout_is_named(tmp_path: Path) -> None:
    custom(tmp_path)
    with pytest.raises(InputError, match="has no pose, which the layout scannet has"):
        open_sequence(tmp_path, "scannet")
    with pytest.raises(InputError, match="did you mean replica"):
        open_sequence(tmp_path, "replika")
    with pytest.raises(InputError, match="is no folder"):
        open_sequence(tmp_path / "nothing")


def test_sequences_of_a_data_set(tmp_path: Path) -> None:
    custom(tmp_path / "b")
    seven_scenes(tmp_path / "chess" / "seq-01")
    (tmp_path / "notes").mkdir()
    assert [path.name for path in sequences_in(tmp_path)] == ["b", "seq-01"]
    with pytest.raises(InputError, match="holds no folder with a sequence"):
        sequences_in(tmp_path / "notes")


def frame(crop: int = 0) -> Frame:
    shape = (HEIGHT - 2 * crop, WIDTH - 2 * crop)
    return Frame(20, np.zeros((*shape, 3), np.uint8), np.ones(shape, np.float32), np.eye(3), np.eye(4), crop)


def write_labels(root: Path, labels: np.ndarray, name: str = "20.png") -> None:
    (root / "mask").mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels).save(root / "mask" / name)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("crop", [0, 10])
def test_masks_from_a_folder(dtype: type, crop: int, tmp_path: Path) -> None:
    labels = np.zeros((HEIGHT, WIDTH), dtype=dtype)
    labels[15:30, 15:40] = 200 if dtype == np.uint8 else 300  # more than 255 masks need 16 bits
    write_labels(tmp_path, labels)
    (tmp_path / "mask_embeddings").mkdir()
    np.save(tmp_path / "mask_embeddings" / "20.npy", np.eye(300, dtype=np.float32))
    found = FolderMasks(tmp_path)(frame(crop))
    assert found.labels[15 - crop, 15 - crop] == labels.max() and found.count == 1
    vector = found.feature(int(labels.max()))
    assert vector is not None and vector.argmax() == labels.max() - 1


def test_features_of_the_original_are_read(tmp_path: Path) -> None:
    import torch

    write_labels(tmp_path, np.ones((HEIGHT, WIDTH), dtype=np.uint8))
    (tmp_path / "mask_embeddings").mkdir()
    torch.save(torch.ones(1, 8), tmp_path / "mask_embeddings" / "20.pt")
    vector = FolderMasks(tmp_path)(frame()).feature(1)
    assert vector is not None and vector.tolist() == [1.0] * 8


def test_bad_masks_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no masks"):
        FolderMasks(tmp_path)
    write_labels(tmp_path, np.zeros((30, 30), dtype=np.uint8))
    with pytest.raises(BadFrame, match="frame 20: masks are 30x30 pixels and the frame is 64x48"):
        FolderMasks(tmp_path)(frame())
    (tmp_path / "mask" / "20.png").write_bytes(b"x")
    with pytest.raises(BadFrame, match=r"frame 20: 20\.png cannot be read"):
        FolderMasks(tmp_path)(frame())
    (tmp_path / "mask" / "20.png").rename(tmp_path / "mask" / "30.png")
    with pytest.raises(BadFrame, match="frame 20: there are no masks"):
        FolderMasks(tmp_path)(frame())


class _Found:
    """A segmenter that finds a part before its whole."""

    def segment_everything(self, image: Image.Image, **options: float) -> object:
        assert image.mode == "RGB" and np.asarray(image)[0, 0].tolist() == [250, 0, 5]
        masks = np.zeros((3, HEIGHT, WIDTH), dtype=bool)
        masks[0, 10:30, 10:30] = True
        masks[1, 5:45, 5:60] = True
        masks[2, 0, 0] = True
        return type("Segmentation", (), {"masks": masks})()


def test_automatic_masks_keep_parts_on_top_of_wholes_and_see_red_first() -> None:
    colour = np.full((HEIGHT, WIDTH, 3), [250, 0, 5], dtype=np.uint8)
    one = Frame(0, colour, np.ones((HEIGHT, WIDTH), np.float32), np.eye(3), np.eye(4))
    labels = AutomaticMasks(_Found())(one).labels  # type: ignore[arg-type]
    assert labels[15, 15] == 1 and labels[40, 50] == 2 and set(np.unique(labels)) == {0, 1, 2}
