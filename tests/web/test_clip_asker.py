"""Clips on the page: the answer is that of Python, clips wait for each other, limits are said in one line."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from helpers.clips import PointingPolicy, write_video
from helpers.pictures import encoded
from PIL import Image

from seg_zero.cli.main import main as cli
from seg_zero.data.synthetic.clips import Clip as SyntheticClip
from seg_zero.errors import InputError
from seg_zero.masks import decode_mask
from seg_zero.pipeline import ReasoningSegmenter
from seg_zero.segmenter import Segmenter
from seg_zero.web import video_tab
from seg_zero.web.asker import Asker, Waiting
from seg_zero.web.clips import ClipAnswer, ClipAsker, ClipLimits, Stopped, read_clip, read_numbers

COUNT = 8


@pytest.fixture(scope="module")
def video(shapes: SyntheticClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("clips") / "shapes.mp4"
    return write_video(place, (shapes.frame(index).image for index in range(COUNT)))


def clip_asker(sam2: Segmenter, answers: list[list[np.ndarray]]) -> ClipAsker:
    return ClipAsker(Asker(ReasoningSegmenter(PointingPolicy(answers), sam2)), sam2, ClipLimits())


def follow(asker: ClipAsker, video: Path, folder: Path, stop: threading.Event | None = None, **options: Any):  # type: ignore[no-untyped-def]
    options = {"min_iou": 0.5, **options}
    return asker.follow(video, "that one", folder, stop or threading.Event(), **options)


def test_a_clip_is_followed_as_in_python(sam2: Segmenter, shapes: SyntheticClip, video: Path, tmp_path: Path) -> None:
    answers = [list(shapes.frame(0).masks[:2]), [shapes.frame(5).masks[2]]]
    events = list(follow(clip_asker(sam2, answers), video, tmp_path, key_frames=(0, 5)))
    found = events[-1]
    assert isinstance(found, ClipAnswer) and found.done == found.count == COUNT
    assert [(one.frame, one.ids) for one in found.asked] == [(0, (1, 2)), (5, (3,))]
    assert found.summary.seen == {1: 5, 2: 5, 3: 3}
    overlay, masks = found.files
    assert (overlay.name, masks.name) == ("shapes_overlay.mp4", "shapes_masks.json")
    with av.open(str(overlay)) as container:
        assert sum(1 for _ in container.decode(video=0)) == COUNT
    written = json.loads(masks.read_text())["frames"]
    python = ReasoningSegmenter(PointingPolicy(answers), sam2).segment_video(video, "that one", key_frames=(0, 5))
    for row, frame in zip(written, python, strict=True):
        assert [item["id"] for item in row["objects"]] == [item.id for item in frame.objects]
        for item, expected in zip(row["objects"], frame.objects, strict=True):
            assert (decode_mask(item["segmentation"]) == expected.mask).all()


def test_one_clip_at_a_time_and_who_leaves_or_stops_makes_room(
    sam2: Segmenter, shapes: SyntheticClip, video: Path, tmp_path: Path
) -> None:
    asker = clip_asker(sam2, [[shapes.frame(0).masks[0]]] * 9)
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
    first = follow(asker, video, folders[0])
    assert isinstance(next(first), ClipAnswer)
    stop = threading.Event()
    second, third = follow(asker, video, folders[1], stop), follow(asker, video, folders[2])
    assert next(second) == Waiting(1) and next(second) == Waiting(1)
    ahead = list[object]()
    waiter = threading.Thread(target=lambda: ahead.append(next(third)))
    waiter.start()
    waiter.join(30)
    assert ahead == [Waiting(2)]
    stop.set()
    with pytest.raises(Stopped):
        list(second)
    first.close()  # its tab was closed
    *_, found = third
    assert isinstance(found, ClipAnswer) and found.done == COUNT
    assert not list(folders[0].iterdir()) and not list(folders[1].iterdir()), "half a clip leaves no file"
    *_, again = follow(asker, video, folders[0])
    assert again.files


def test_stopping_ends_the_work_at_the_next_frame(
    sam2: Segmenter, shapes: SyntheticClip, video: Path, tmp_path: Path
) -> None:
    stop = threading.Event()
    running = follow(clip_asker(sam2, [[shapes.frame(0).masks[0]]]), video, tmp_path, stop)
    assert next(running).done == 0 and next(running).done == 1
    stop.set()
    with pytest.raises(Stopped):
        list(running)
    assert not list(tmp_path.iterdir())


PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.0,\n{}\n#EXT-X-ENDLIST\n"


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("large.mp4", lambda video: video.read_bytes() + bytes(1000), "bytes; the limit is"),
        ("text.mp4", lambda _: b"no clip", "video text.mp4 cannot be read"),
        ("empty.mp4", lambda _: b"", "video empty.mp4 holds no data"),
        ("picture.png", lambda _: encoded(Image.new("RGB", (9, 9))), "video picture.png is a picture"),
        ("list.m3u8", lambda video: PLAYLIST.format(video).encode(), "video list.m3u8 cannot be read"),
        ("list.mp4", lambda video: f"ffconcat version 1.0\nfile {video.name}\n".encode(), "cannot be read"),
    ],
)
def test_an_unusable_clip_is_refused_in_one_line_without_the_servers_folders(
    name: str, make: Callable[[Path], bytes], words: str, video: Path, tmp_path: Path
) -> None:
    (tmp_path / video.name).write_bytes(video.read_bytes())
    (tmp_path / name).write_bytes(make(video))
    with pytest.raises(InputError) as caught:
        read_clip(tmp_path / name, ClipLimits(bytes=video.stat().st_size + 500))
    line = str(caught.value)
    assert words in line and str(tmp_path) not in line and "\n" not in line


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (ClipLimits(frames=COUNT - 1), "8 frames; the limit is 7"),
        (ClipLimits(pixels=112 * 111), "112x112 pixels; the limit is 12,432"),
    ],
)
def test_a_clip_beyond_a_limit_is_refused(limits: ClipLimits, words: str, video: Path) -> None:
    with pytest.raises(InputError, match=words):
        read_clip(video, limits)
    assert len(read_clip(video, ClipLimits())) == COUNT


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"key_frames": (8,)}, "frames are 0 to 7"),
        ({"every": 0.0}, "every=0.0"),
        ({"min_iou": 0.0}, "min_iou=0.0"),
    ],
)
def test_an_option_out_of_range_is_refused_before_any_waiting(
    options: dict[str, Any], words: str, sam2: Segmenter, video: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=words):
        next(follow(clip_asker(sam2, []), video, tmp_path, **options))


def test_frame_numbers_are_read_or_refused() -> None:
    assert read_numbers(" 0, 40;80 7") == (0, 40, 80, 7)
    for text in ("", " , ", "1.5", "-1", "x", "²", "1" * 10):
        with pytest.raises(InputError, match="write for instance 0, 40, 80"):
            read_numbers(text)


def test_what_came_of_a_clip_is_said_in_words(
    sam2: Segmenter, shapes: SyntheticClip, video: Path, tmp_path: Path
) -> None:
    (nothing,) = list(follow(clip_asker(sam2, []), video, tmp_path))[-1:]
    page = video_tab.finished("<script>", nothing)
    assert "No object found on any frame" in page and "&lt;script&gt;" in page and "<table" not in page
    assert "Frame 0 (0.00 s), objects none" in page and "the answer names none" in page
    *_, half, found = follow(clip_asker(sam2, [[shapes.frame(0).masks[0]]]), video, tmp_path)
    assert half is found
    assert "1 object followed." in video_tab.finished("it", found) and "<td>8 of 8</td>" in video_tab.finished(
        "it", found
    )
    assert '<progress max="8" value="8"' in video_tab.progress("it", found) and "about 0:00 left" in video_tab.progress(
        "it", found
    )
    assert "The policy is being asked" in video_tab.progress("it", ClipAnswer(8))


@pytest.mark.parametrize("option", ["--max_video_mb", "--max_video_frames"])
def test_bad_limits_of_clips_end_in_one_line(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(["web", option, "0"]) == 2
    assert f"{option} 0" in capsys.readouterr().err
