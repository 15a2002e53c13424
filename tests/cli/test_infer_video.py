"""``seg-zero infer --video``: files, summary, and what is said about bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.clips import write_frames, write_video
from PIL import Image

from seg_zero.cli.main import main
from seg_zero.data.synthetic.clips import Clip, make_clip
from seg_zero.data.synthetic.scenes import Scene, questions_of
from seg_zero.masks import decode_mask

COUNT, FPS = 12, 10


@pytest.fixture(scope="module")
def clip() -> Clip:
    return make_clip(21, shapes=3, max_speed=0.01)


@pytest.fixture(scope="module")
def question(clip: Clip) -> tuple[str, int]:
    asked = questions_of(Scene(clip.frame(0).image, clip.objects), "attr")[0]
    return asked.text, asked.targets[0]


@pytest.fixture(scope="module")
def video(clip: Clip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("clips") / "shapes.mp4"
    return write_video(place, (clip.frame(index).image for index in range(COUNT)), FPS)


def infer(*arguments: object) -> int:
    return main(["infer", "--device", "cpu", *map(str, arguments)])


def _decoded(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_a_clip_gives_an_overlay_video_and_masks_of_every_frame(
    clip: Clip, video: Path, question: tuple[str, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, target = question
    assert infer("--video", video, "--text", text, "--output_path", tmp_path) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shapes_masks.json", "shapes_overlay.mp4"]
    frames = _decoded(tmp_path / "shapes_overlay.mp4")
    assert len(frames) == COUNT
    assert frames[0].shape[0] % 2 == 0 and min(frames[0].shape[:2]) >= 112
    assert np.abs(frames[0].astype(int) - frames[-1]).mean() > 0.5  # things move
    found = json.loads((tmp_path / "shapes_masks.json").read_text())
    assert {name: found[name] for name in ("video", "question", "width", "height", "fps", "frame_count")} == {
        "video": "shapes",
        "question": text,
        "width": 112,
        "height": 112,
        "fps": FPS,
        "frame_count": COUNT,
    }
    assert [row["frame"] for row in found["frames"]] == list(range(COUNT))
    assert found["frames"][5]["seconds"] == 0.5
    assert ["answer" in row for row in found["frames"]] == [True] + [False] * (COUNT - 1)
    for row in found["frames"]:
        (item,) = row["objects"]
        mask, truth = decode_mask(item["segmentation"]), clip.frame(row["frame"]).masks[target]
        assert item["id"] == 1 and item["area"] == mask.sum()
        assert (mask & truth).sum() / (mask | truth).sum() > 0.6
    printed = capsys.readouterr().out
    assert f"frames:    {COUNT} of 112x112, {FPS} per second" in printed
    assert f"object 1:  in {COUNT} frames" in printed


def test_json_is_one_object(
    video: Path, question: tuple[str, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mine.mp4"
    options = ("--every", 0.5, "--json", "--outputs", "overlay")
    assert infer("--video", video, "--text", question[0], "--output_path", out, *options) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["key_frames"] == [0, 5, 10] and record["frames"] == COUNT and record["unreadable"] == 0
    assert record["files"] == {"overlay": str(out)}
    assert [path.name for path in tmp_path.iterdir()] == ["mine.mp4"]


def test_odd_sides_and_corrupt_frames_still_give_a_whole_video(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = make_clip(21, side=131, shapes=2)
    folder = write_frames(tmp_path / "odd", (clip.frame(index).image for index in range(5)))
    (folder / "00002.png").write_bytes(b"no picture")
    assert infer("--video", folder, "--text", "the red circle", "--output_path", tmp_path / "out") == 0
    frames = _decoded(tmp_path / "out" / "odd_overlay.mp4")
    assert len(frames) == 5 and frames[0].shape[:2] == (132, 132)
    printed = capsys.readouterr()
    assert "frame 2 (00002.png)" in printed.err
    assert "unreadable: 1 frame, shown" in printed.out
    rows = json.loads((tmp_path / "out" / "odd_masks.json").read_text())["frames"]
    assert "00002.png" in rows[2]["problem"] and len(rows) == 5


def test_without_an_object_the_output_is_complete_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_frames(tmp_path / "plain", [Image.new("RGB", (112, 112), (90, 90, 90))] * 3)
    assert infer("--video", folder, "--text", "the red circle", "--output_path", tmp_path / "out") == 0
    rows = json.loads((tmp_path / "out" / "plain_masks.json").read_text())["frames"]
    assert len(rows) == len(_decoded(tmp_path / "out" / "plain_overlay.mp4")) == 3
    printed = capsys.readouterr()
    if not rows[0]["objects"]:
        assert "no object found" in printed.out and "frame 0: no object found" in printed.err


Arguments = Callable[[Path, Path], list[object]]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (lambda video, folder: ["--video", folder / "none.mp4", "--text", "it"], "does not exist"),
        (lambda video, folder: ["--video", __file__, "--text", "it"], "cannot be read"),
        (lambda video, folder: ["--video", folder, "--text", "it"], "holds no pictures"),
        (lambda video, folder: ["--video", video], "comes without a question; add it in quotes"),
        (lambda video, folder: [video], "comes without a question"),
        (lambda video, folder: [video, "the red", "circle"], "'circle' stands beside the clip"),
        (lambda video, folder: [video, "the cup", "--text", "it"], "'the cup' stands beside the clip"),
        (lambda video, folder: [video, "the cup", "--image_path", "a.png"], "--video and --image_path"),
        (lambda video, folder: ["--video", video, "--text", " "], "question"),
        (lambda video, folder: ["--video", video, "--text", "it", "--key_frame", 12], "frames are 0 to 11"),
        (lambda video, folder: ["--video", video, "--text", "it", "--key_frame", 1, "--every", 2], "choose one"),
        (lambda video, folder: ["--video", video, "--text", "it", "--every", 0], "every=0"),
        (lambda video, folder: ["--video", video, "--text", "it", "--fps", 5], "leave fps out"),
        (lambda video, folder: ["--video", video, "--text", "it", "--image_path", "a.png"], "--video and --image_path"),
        (lambda video, folder: ["--video", video, "--text", "it", "--votes", 3], "--votes"),
        (lambda video, folder: ["--video", video, "--text", "it", "--outputs", "mask"], "choose of overlay,rle"),
        (lambda video, folder: ["--video", video, "--text", "it", "--min_iou", 2], "min_iou=2.0"),
        (lambda video, folder: ["--video", video, "--text", "it", "--output_path", video], "would write into"),
        (lambda video, folder: ["--video", video, "--text", "it", "--output_path", __file__], "is a file"),
        (lambda video, folder: ["--text", "it", "--every", 2], "give one with --video"),
    ],
)
def test_bad_input_is_one_line(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: Arguments, words: str
) -> None:
    before = video.read_bytes()
    assert infer(*arguments(video, tmp_path)) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert video.read_bytes() == before and not list(tmp_path.iterdir())
