"""Answers carried through clips: identities, key frames, order, and how much is held at a time."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from helpers.clips import PointingPolicy, write_frames, write_video
from PIL import Image

from seg_zero.data.synthetic.clips import Clip as SyntheticClip
from seg_zero.errors import InputError
from seg_zero.pipeline import ReasoningSegmenter
from seg_zero.segmenter import Segmenter
from seg_zero.video.clips import CHUNK, open_clip
from seg_zero.video.tracking import KeyFrames, VideoFrame, match, segment_clip

COUNT = 20


@pytest.fixture(scope="module")
def folder(shapes: SyntheticClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("clips") / "shapes"
    return write_frames(place, (shapes.frame(index).image for index in range(COUNT)))


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


def run(sam2: Segmenter, folder: Path, answers: list[list[np.ndarray]], **options: object) -> list[VideoFrame]:
    segmenter = ReasoningSegmenter(PointingPolicy(answers), sam2)
    return list(segmenter.segment_video(folder, "that one", fps=10, **options))  # type: ignore[arg-type]


def ids(frame: VideoFrame) -> list[int]:
    return [item.id for item in frame.objects]


def test_masks_follow_the_objects_of_the_first_frame(sam2: Segmenter, shapes: SyntheticClip, folder: Path) -> None:
    frames = run(sam2, folder, [list(shapes.frame(0).masks[:2])])
    assert [frame.index for frame in frames] == list(range(COUNT))
    assert all(ids(frame) == [1, 2] for frame in frames)
    assert [frame.answer is not None for frame in frames] == [True] + [False] * (COUNT - 1)
    for frame in frames:
        truth = shapes.frame(frame.index).masks
        assert min(iou(item.mask, truth[item.id - 1]) for item in frame.objects) > 0.6, frame.index
        assert frame.masks.shape == (2, 112, 112)


def test_a_key_frame_in_the_middle_reaches_both_ways(sam2: Segmenter, shapes: SyntheticClip, folder: Path) -> None:
    frames = run(sam2, folder, [[shapes.frame(12).masks[1]]], key_frames=[12])
    assert [frame.index for frame in frames] == list(range(COUNT))
    assert [frame.index for frame in frames if frame.answer is not None] == [12]
    for frame in frames:
        (item,) = frame.objects
        assert iou(item.mask, shapes.frame(frame.index).masks[1]) > 0.6, frame.index


def test_a_new_answer_re_anchors_and_identities_stay(sam2: Segmenter, shapes: SyntheticClip, folder: Path) -> None:
    late = shapes.frame(10).masks
    # The same two objects in another order, and a new one; then only the last.
    answers = [list(shapes.frame(0).masks[:2]), [late[2], late[1], late[0]], [shapes.frame(15).masks[2]]]
    frames = run(sam2, folder, answers, key_frames=[0, 10, 15])
    assert [ids(frames[index]) for index in (0, 9, 10, 14, 15, 19)] == [[1, 2], [1, 2], [1, 2, 3], [1, 2, 3], [3], [3]]
    for item in frames[12].objects:
        assert iou(item.mask, shapes.frame(12).masks[item.id - 1]) > 0.6


def test_an_answer_without_objects_leaves_those_in_view(sam2: Segmenter, shapes: SyntheticClip, folder: Path) -> None:
    frames = run(sam2, folder, [[shapes.frame(0).masks[0]], []], key_frames=[0, 8])
    assert all(ids(frame) == [1] for frame in frames)
    assert frames[8].problem is not None and "no object found" in frames[8].problem
    assert iou(frames[9].objects[0].mask, shapes.frame(9).masks[0]) > 0.6


@pytest.mark.parametrize("key", [0, 7])
def test_without_any_object_every_frame_still_comes(sam2: Segmenter, folder: Path, key: int) -> None:
    frames = run(sam2, folder, [[]], key_frames=[key])
    assert [frame.index for frame in frames] == list(range(COUNT))
    assert not any(frame.objects for frame in frames)
    assert frames[key].problem is not None and "no object found" in frames[key].problem


def test_the_policy_is_asked_every_so_many_seconds(sam2: Segmenter, folder: Path) -> None:
    frames = run(sam2, folder, [], every=0.7)  # 10 frames per second
    assert [frame.index for frame in frames if frame.answer is not None] == [0, 7, 14]


def test_a_corrupt_frame_keeps_the_last_masks(
    sam2: Segmenter, shapes: SyntheticClip, folder: Path, tmp_path: Path
) -> None:
    broken = write_frames(tmp_path / "broken", (shapes.frame(index).image for index in range(COUNT)))
    (broken / "00005.png").write_bytes(b"no picture")
    frames = run(sam2, broken, [[shapes.frame(0).masks[0]]])
    assert frames[5].image is None and frames[5].problem is not None and "00005.png" in frames[5].problem
    assert (frames[5].objects[0].mask == frames[4].objects[0].mask).all()
    assert iou(frames[6].objects[0].mask, shapes.frame(6).masks[0]) > 0.6
    assert [frame.index for frame in frames if frame.problem is not None] == [5]


@pytest.mark.parametrize(("keys", "asked"), [([5], [6]), ([0, 5], [0, 6])])
def test_a_corrupt_key_frame_gives_way_to_the_next(
    sam2: Segmenter, shapes: SyntheticClip, tmp_path: Path, keys: list[int], asked: list[int]
) -> None:
    broken = write_frames(tmp_path / "broken", (shapes.frame(index).image for index in range(9)))
    (broken / "00005.png").write_bytes(b"no picture")
    frames = run(sam2, broken, [], key_frames=keys)
    assert [frame.index for frame in frames] == list(range(9))
    assert [frame.index for frame in frames if frame.answer is not None] == asked
    assert frames[5].problem is not None and "00005.png" in frames[5].problem


def test_a_clip_whose_last_frames_are_all_corrupt_has_no_key_frame(
    sam2: Segmenter, shapes: SyntheticClip, tmp_path: Path
) -> None:
    broken = write_frames(tmp_path / "broken", (shapes.frame(index).image for index in range(4)))
    (broken / "00003.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"frame 3 \(00003.png\).*earlier key frame"):
        run(sam2, broken, [], key_frames=[3])


@pytest.mark.parametrize(
    ("numbers", "every", "words"),
    [
        ([20], None, "key frame 20 is outside the clip, whose frames are 0 to 19"),
        ([-1], None, "key frame -1 is outside"),
        ([3], 1.0, "by number and by seconds"),
        ([], 0.0, "every=0.0"),
        ([], float("nan"), "every=nan"),
    ],
)
def test_unusable_key_frames(
    sam2: Segmenter, folder: Path, numbers: list[int], every: float | None, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        ReasoningSegmenter(PointingPolicy([]), sam2).segment_video(folder, "that", key_frames=numbers, every=every)


@pytest.mark.parametrize("value", [0, -0.5, 1.5, float("nan")])
def test_unusable_overlaps(sam2: Segmenter, folder: Path, value: float) -> None:
    with pytest.raises(InputError, match="min_iou"):
        ReasoningSegmenter(PointingPolicy([]), sam2).segment_video(folder, "that", min_iou=value)


def _bar(start: int, stop: int) -> np.ndarray:
    mask = np.zeros((1, 20), dtype=bool)
    mask[0, start:stop] = True
    return mask


def test_matching_takes_the_best_sum_and_leaves_weak_pairs() -> None:
    running = {4: _bar(0, 10), 7: _bar(8, 18)}
    # The first is nearest to 4; the second overlaps both, and 7 is left for it.
    assert match(running, [_bar(0, 9), _bar(6, 16)]) == {0: 4, 1: 7}
    assert match(running, [_bar(14, 20)]) == {}
    assert match(running, [_bar(14, 20)], min_iou=0.3) == {0: 7}
    assert match({}, [_bar(0, 3)]) == {}
    assert match(running, []) == {}


class _Still:
    """A tracker whose masks stay where they are."""

    def start(self, image: Image.Image, masks: Mapping[int, np.ndarray]) -> None:
        self._masks = dict(masks)

    def step(self, image: Image.Image) -> dict[int, np.ndarray]:
        return self._masks


class _Counted:
    """A clip that knows how many of the pictures it gave are still held."""

    def __init__(self, path: Path) -> None:
        self._clip = open_clip(path)
        self.name, self.size, self.fps = self._clip.name, self._clip.size, self._clip.fps
        self._alive: list[weakref.ref[Image.Image]] = []
        self.most = 0

    def __len__(self) -> int:
        return len(self._clip)

    def seconds(self, index: int) -> float:
        return self._clip.seconds(index)

    def read(self, start: int, stop: int) -> Iterator[object]:
        for frame in self._clip.read(start, stop):
            assert frame.image is not None
            self._alive = [one for one in self._alive if one() is not None] + [weakref.ref(frame.image)]
            self.most = max(self.most, len(self._alive))
            yield frame


@pytest.mark.parametrize(("key", "most"), [(0, 4), (100, CHUNK + 4)])
def test_few_frames_are_held_however_long_the_clip_is(sam2: Segmenter, tmp_path: Path, key: int, most: int) -> None:
    path = write_video(tmp_path / "long.mp4", (Image.new("RGB", (64, 48), (i % 200,) * 3) for i in range(200)))
    clip = _Counted(path)
    answer = ReasoningSegmenter(PointingPolicy([[_square()]], side=56), sam2, embeddings=1)
    gc.collect()
    frames = segment_clip(clip, lambda image: answer(image, "it"), _Still(), KeyFrames([key], None, 200))  # type: ignore[arg-type]
    assert sum(1 for _ in frames) == 200
    assert clip.most <= most


def _square() -> np.ndarray:
    mask = np.zeros((48, 64), dtype=bool)
    mask[10:30, 10:30] = True
    return mask
