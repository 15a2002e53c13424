"""Reading clips: frames by number from files and folders, and what is said about bad ones."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from helpers.clips import write_frames, write_video
from PIL import Image

from seg_zero.errors import InputError
from seg_zero.video.clips import CHUNK, Clip, FolderClip, backwards, open_clip

COUNT = 45
PICTURE = Image.new("RGB", (32, 24))


def numbered(index: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """A picture whose grey tells its number, whatever the encoder does to it."""
    return Image.new("RGB", size, (5 * index + 10,) * 3)


def number_of(image: Image.Image | None) -> int | None:
    return None if image is None else round((float(np.asarray(image).mean()) - 10) / 5)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clips") / "count.mp4", (numbered(i) for i in range(COUNT)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_frames(tmp_path_factory.mktemp("clips") / "count", (numbered(i) for i in range(COUNT)))


@pytest.fixture(params=["file", "folder"])
def clip(request: pytest.FixtureRequest, video: Path, folder: Path) -> Clip:
    return open_clip(video) if request.param == "file" else open_clip(folder, fps=10)


def test_frames_have_their_numbers_from_wherever_reading_starts(clip: Clip) -> None:
    assert (len(clip), clip.size, float(clip.fps), clip.name) == (COUNT, (64, 48), 10.0, "count")
    for start, stop in ((0, COUNT), (0, 1), (7, 9), (12, 13), (23, 44), (COUNT - 1, COUNT), (40, 99), (5, 5)):
        frames = list(clip.read(start, stop))
        assert [frame.index for frame in frames] == list(range(start, min(stop, COUNT)))
        assert [number_of(frame.image) for frame in frames] == [frame.index for frame in frames]


def test_backwards_gives_every_frame_once(clip: Clip) -> None:
    frames = list(backwards(clip, 2 * CHUNK + 3))
    assert [number_of(frame.image) for frame in frames] == list(reversed(range(2 * CHUNK + 3)))


def test_seconds_follow_the_frame_rate(clip: Clip) -> None:
    assert clip.seconds(0) == 0
    assert clip.seconds(25) == pytest.approx(2.5)


def test_a_corrupt_picture_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "frames", (numbered(i) for i in range(5)))
    (folder / "00002.png").write_bytes(b"no picture")
    frames = list(open_clip(folder).read(0, 5))
    assert [number_of(frame.image) for frame in frames] == [0, 1, None, 3, 4]
    assert frames[2].problem is not None and "frame 2 (00002.png)" in frames[2].problem


def test_frames_may_be_heic(tmp_path: Path) -> None:
    for index in range(3):
        numbered(index).save(tmp_path / f"{index}.heic")
    clip = open_clip(tmp_path)
    assert [number_of(frame.image) for frame in clip.read(0, 3)] == [0, 1, 2] and clip.size == (64, 48)


def test_damage_in_a_video_costs_only_the_frame_it_hits(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", (numbered(i) for i in range(12)), key_interval=1)
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    start, size = packets[7]
    assert start is not None
    data[start : start + size] = bytes(size)
    path.write_bytes(data)
    frames = list(open_clip(path).read(0, 12))
    assert [number_of(frame.image) for frame in frames] == [*range(7), None, *range(8, 12)]
    assert frames[7].problem == "frame 7 (0.70 s) cannot be decoded"


def test_names_order_the_frames_of_a_folder(tmp_path: Path) -> None:
    for name, number in (("b.png", 1), ("a.png", 0), (".c.png", 7), ("notes.txt", 7), ("c.png", 2)):
        if name.endswith(".txt"):
            (tmp_path / name).write_text("no frame")
        else:
            numbered(number).save(tmp_path / name)
    assert [number_of(frame.image) for frame in FolderClip(tmp_path).read(0, 9)] == [0, 1, 2]


def _text(folder: Path) -> Path:
    (folder / "clip.mp4").write_text("this is no video")
    return folder / "clip.mp4"


def _empty_file(folder: Path) -> Path:
    (folder / "clip.mp4").touch()
    return folder / "clip.mp4"


def _picture(folder: Path) -> Path:
    PICTURE.save(folder / "clip.png")
    return folder / "clip.png"


def _sound(folder: Path) -> Path:
    import wave

    with wave.open(str(folder / "clip.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(b"\0\0" * 800)
    return folder / "clip.wav"


def _mixed(folder: Path) -> Path:
    return write_frames(folder, [PICTURE, PICTURE.resize((16, 24))])


def _unreadable(folder: Path) -> Path:
    (folder / "00000.png").write_bytes(b"no picture")
    return folder


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder / "missing.mp4", "does not exist"),
        (_text, "cannot be read"),
        (_empty_file, "holds no data"),
        (_picture, "is a picture"),
        (_sound, "cannot be read"),
        (lambda folder: folder, "holds no pictures"),
        (_mixed, "different sizes: 00000.png is 32x24 and 00001.png 16x24"),
        (_unreadable, "none can be read"),
    ],
    ids=["missing", "text", "empty", "picture", "sound", "empty folder", "sizes", "unreadable"],
)
def test_what_is_no_clip(tmp_path: Path, make: object, words: str) -> None:
    assert callable(make)
    place = make(tmp_path)
    with pytest.raises(InputError, match=words) as caught:
        open_clip(place)
    assert str(place) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fps", [0, -1, float("nan"), 1e9])
def test_frame_rates_out_of_range(folder: Path, fps: float) -> None:
    with pytest.raises(InputError, match="fps="):
        open_clip(folder, fps=fps)


def test_a_file_has_its_own_frame_rate(video: Path) -> None:
    with pytest.raises(InputError, match="leave fps out"):
        open_clip(video, fps=5)
