"""sam2's video predictor behind the tracker: its own masks, a bounded state, and shared weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from seg_zero.data.synthetic.clips import make_clip
from seg_zero.errors import InputError
from seg_zero.segmenter import load_segmenter
from seg_zero.segmenter.files import TINY_FOLDER
from seg_zero.segmenter.sam2_package import Sam2PackageSegmenter, VideoPredictor, build_model
from seg_zero.segmenter.video import Sam2Tracker, open_tracker


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The model is so small that threads only wait for each other, for seconds on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def sam2() -> Sam2PackageSegmenter:
    segmenter = load_segmenter("tiny", device="cpu")
    assert isinstance(segmenter, Sam2PackageSegmenter)
    return segmenter


@pytest.fixture
def tracker(sam2: Sam2PackageSegmenter) -> Sam2Tracker:
    tracker = open_tracker(sam2)
    assert isinstance(tracker, Sam2Tracker)
    return tracker


def test_the_masks_are_those_of_sam2s_own_way_over_a_folder(
    sam2: Sam2PackageSegmenter, tracker: Sam2Tracker, tmp_path: Path
) -> None:
    clip, count = make_clip(5, shapes=2), 7
    frames = [clip.frame(index) for index in range(count)]
    for index, frame in enumerate(frames):
        frame.image.save(tmp_path / f"{index}.jpg", quality=100, subsampling=0)
    from seg_zero.images import load_image

    seen = [load_image(tmp_path / f"{index}.jpg") for index in range(count)]
    masks = {4: frames[0].masks[0], 9: frames[0].masks[1]}
    tracker.start(seen[0], masks)
    ours = [tracker.step(image) for image in seen[1:]]
    model = sam2.model
    assert isinstance(model, VideoPredictor)
    with torch.autocast("cpu", dtype=torch.bfloat16):  # as sam2 is run; here it is float32
        state = model.init_state(str(tmp_path))
        for number, mask in masks.items():
            model.add_new_mask(state, 0, number, mask)
        theirs = [
            {number: (one[0] > 0).numpy() for number, one in zip(numbers, logits, strict=True)}
            for _, numbers, logits in model.propagate_in_video(state)
        ]
    for mine, reference in zip(ours, theirs[1:], strict=True):
        assert list(mine) == list(reference) == [4, 9]
        for number, mask in mine.items():
            assert mask.shape == (112, 112) and mask.dtype == bool
            assert (mask ^ reference[number]).mean() < 0.01


def test_the_state_does_not_grow_with_the_clip(tracker: Sam2Tracker) -> None:
    clip = make_clip(6, shapes=2)
    first = clip.frame(0)
    tracker.start(first.image, {1: first.masks[0], 2: first.masks[1]})
    held = []
    for index in range(1, 25):
        tracker.step(clip.frame(index % 5).image)
        held.append(tracker.frames_held)
    assert tracker.reach == 4
    assert max(held) == held[-1] == tracker.reach + 1  # the key frame, and as many as the memory reaches


def test_dropping_what_the_memory_does_not_reach_changes_no_mask(
    sam2: Sam2PackageSegmenter, tracker: Sam2Tracker
) -> None:
    other = open_tracker(sam2)
    assert isinstance(other, Sam2Tracker)
    other.reach = 1000
    clip = make_clip(8, shapes=2)
    first = clip.frame(0)
    for one in (tracker, other):
        one.start(first.image, {1: first.masks[0]})
    for index in range(1, 12):
        image = clip.frame(index).image
        assert (tracker.step(image)[1] == other.step(image)[1]).all()
    assert other.frames_held == 12


def test_starting_again_forgets_the_clip_before(tracker: Sam2Tracker) -> None:
    first, second = make_clip(9, shapes=2).frame(0), make_clip(10, shapes=2, side=168)
    tracker.start(first.image, {1: first.masks[0], 2: first.masks[1]})
    tracker.step(first.image)
    frame = second.frame(0)
    tracker.start(frame.image, {7: frame.masks[1]})
    masks = tracker.step(second.frame(1).image)
    assert list(masks) == [7] and masks[7].shape == (168, 168)
    truth = second.frame(1).masks[1]
    assert (masks[7] & truth).sum() / (masks[7] | truth).sum() > 0.6


def test_images_are_segmented_as_without_a_memory(sam2: Sam2PackageSegmenter, tracker: Sam2Tracker) -> None:
    frame = make_clip(11).frame(0)
    from seg_zero.masks import mask_to_prompt_object

    prompts = [mask_to_prompt_object(mask) for mask in frame.masks]
    before = sam2.segment(frame.image, prompts)
    tracker.start(frame.image, {1: frame.masks[0]})
    tracker.step(frame.image)
    after = sam2.segment(frame.image, prompts)
    assert np.array_equal(before.masks, after.masks) and np.array_equal(before.scores, after.scores)


def test_a_model_without_memory_is_refused(tmp_path: Path) -> None:
    text = (TINY_FOLDER / "tiny_sam2.yaml").read_text()
    start, end = text.index("  num_maskmem"), text.index("  # SAM heads")
    config = tmp_path / "image_only.yaml"
    config.write_text(
        text[:start] + "  num_maskmem: 0\n  memory_attention: null\n  memory_encoder: null\n" + text[end:]
    )
    with pytest.raises(InputError, match="no video memory"):
        open_tracker(Sam2PackageSegmenter(build_model(config)))


def test_another_segmenter_is_refused() -> None:
    class Other:
        pass

    with pytest.raises(InputError, match="sam2 package"):
        open_tracker(Other())  # type: ignore[arg-type]
