"""Views: pixels and coordinates move together, and questions keep their answers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from seg_zero.data.augmentation import GREY, Augmentation, View, choose_view, may_flip, may_zoom_in, whole
from seg_zero.errors import InputError
from seg_zero.masks import mask_to_prompt_object
from seg_zero.objects import PromptObject

FREE = "the red cup"  # may be mirrored and zoomed


@st.composite
def views(draw: st.DrawFn) -> View:
    left, top = draw(st.integers(-20, 30)), draw(st.integers(-20, 30))
    return View((left, top, left + draw(st.integers(1, 60)), top + draw(st.integers(1, 60))), draw(st.booleans()))


coordinates = st.integers(-4000, 16000).map(lambda quarters: quarters / 4)


@settings(max_examples=200, deadline=None)
@given(views(), st.none() | st.tuples(*[coordinates] * 4), st.lists(st.tuples(coordinates, coordinates), max_size=3))
def test_to_image_undoes_to_view(view: View, box: tuple[float, ...] | None, points: list[tuple[float, float]]) -> None:
    item = PromptObject(box, tuple(points))  # type: ignore[arg-type]
    assert view.to_image(view.to_view(item)) == item
    assert view.to_view(view.to_image(item)) == item


@settings(max_examples=200, deadline=None)
@given(views(), st.integers(0, 2**32 - 1), st.sampled_from([bool, np.uint8]))
def test_picture_mask_and_points_agree_pixel_by_pixel(view: View, seed: int, kind: type) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (33, 41, 3), dtype=np.uint8)
    mask = rng.choice([0, 1, 255], (33, 41)).astype(kind)
    seen, labels = np.asarray(view.picture(Image.fromarray(pixels))), view.mask(mask)
    assert seen.shape[:2] == labels.shape == view.size[::-1] and labels.dtype == mask.dtype
    for y, x in {(0, 0), (labels.shape[0] - 1, labels.shape[1] - 1), (labels.shape[0] // 2, labels.shape[1] // 3)}:
        ((sx, sy),) = view.to_image(PromptObject(None, ((x, y),))).points
        inside = 0 <= sx < 41 and 0 <= sy < 33
        assert tuple(seen[y, x]) == (tuple(pixels[int(sy), int(sx)]) if inside else GREY)
        assert labels[y, x] == (mask[int(sy), int(sx)] if inside else 0)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([FREE, "the left cup", "the cup in the corner", "the largest cup"]),
    st.floats(0, 1),
    st.floats(0, 0.5),
)
def test_drawn_views_keep_every_target_whole(seed: int, question: str, flip: float, jitter: float) -> None:
    rng = np.random.default_rng(seed)
    width, height = (int(v) for v in rng.integers(8, 60, 2))
    masks = []
    for _ in range(int(rng.integers(0, 3))):
        mask = np.zeros((height, width), dtype=bool)
        x, y = int(rng.integers(width)), int(rng.integers(height))
        mask[y : y + int(rng.integers(1, 20)), x : x + int(rng.integers(1, 20))] = True
        masks.append(mask)
    objects = [mask_to_prompt_object(mask) for mask in masks]
    view = choose_view((width, height), objects, question, Augmentation(flip, jitter), rng)
    for mask, item in zip(masks, objects, strict=True):
        seen = view.mask(mask)
        assert seen.sum() == mask.sum()
        assert mask_to_prompt_object(seen).box == view.to_view(item).box
        assert all(seen[int(y), int(x)] for x, y in view.to_view(item).points)
    left, top, right, bottom = view.window
    if question != FREE or not masks:
        assert left <= 0 and top <= 0 and right >= width and bottom >= height
    assert not (view.flipped and question == "the left cup")


def test_a_flip_by_hand() -> None:
    view = View((0, 0, 10, 6), flipped=True)
    item = PromptObject((1, 2, 4, 5), ((2, 3), (4, 5)))
    assert view.to_view(item) == PromptObject((5, 2, 8, 5), ((7, 3), (5, 5)))


def test_without_augmentation_the_picture_is_as_stored_and_nothing_is_drawn() -> None:
    view = choose_view((7, 5), [], FREE, Augmentation(), None)  # type: ignore[arg-type]
    assert view == whole((7, 5)) == View((0, 0, 7, 5))
    image = Image.fromarray(np.arange(105, dtype=np.uint8).reshape(5, 7, 3))
    assert np.array_equal(np.asarray(view.picture(image)), np.asarray(image))


def test_every_kind_of_view_is_drawn() -> None:
    rng = np.random.default_rng(0)
    item = PromptObject((40, 40, 60, 60), ((50, 50),))
    drawn = [choose_view((100, 80), [item], FREE, Augmentation(0.5, 0.25), rng) for _ in range(300)]
    widths = np.array([view.size[0] for view in drawn])
    assert 0.4 < np.mean([view.flipped for view in drawn]) < 0.6
    assert widths.min() == 80 and 130 <= widths.max() <= 133  # 100 / 1.25 and 100 / 0.75
    assert 0.35 < np.mean(widths > 100) < 0.65
    assert all(abs(view.size[0] / view.size[1] - 1.25) < 0.03 for view in drawn)


def test_the_frame_stays_in_the_middle_if_the_question_names_it() -> None:
    rng = np.random.default_rng(0)
    views = [choose_view((100, 80), [], "the cup in the centre", Augmentation(0, 0.5), rng) for _ in range(20)]
    assert any(view.size[0] > 100 for view in views)
    for left, top, right, bottom in (view.window for view in views):
        assert abs(left + right - 100) <= 1 and abs(top + bottom - 80) <= 1


@pytest.mark.parametrize(
    "question",
    [
        "the left cup",
        "LEFTMOST person",
        "left-handed man",
        "man on the far-right",
        "the topleft tile",
        "bottom rt corner",
        "guy on rhs",
        "the hand turning clockwise",
        "the anti-clockwise arrow",
        "the eastern wall",
        "the second dog",
        "the last in line",
        "player 23",
        "the sign that says stop",
        'the word "open"',
        "the licence plate",
        "three o'clock",
        "左边的杯子",
        "右侧的人",
        "写着字的牌子",
        "顺时针转动的轮子",
        "la tasse à gauche",
        "die linke Tasse",
        "чашка слева",
        "左にあるカップ",
    ],
)
def test_questions_that_a_mirror_would_change(question: str) -> None:
    assert not may_flip(question)


@pytest.mark.parametrize(
    "question",
    ["the bright cup", "leftover food", "the upright bottle", "what can hold water?", "the man's hat", "红色的杯子"],
)
def test_questions_that_a_mirror_does_not_change(question: str) -> None:
    assert may_flip(question)


@pytest.mark.parametrize(
    ("question", "allowed"),
    [
        ("the red cup", True),
        ("all red cups", True),
        ("what can hold water?", True),
        ("红色的杯子", True),
        ("the smallest cup", False),
        ("the second cup from the top", False),
        ("the cup next to the lamp", False),
        ("the only cup", False),
        ("the cup in the corner", False),
        ("the smaller dog", False),
        ("the left cup", False),
        ("最大的杯子", False),
        ("桌子上的杯子", False),
        ("la plus petite fenêtre", False),
    ],
)
def test_zooming_in_needs_a_question_about_the_targets_alone(question: str, allowed: bool) -> None:
    assert may_zoom_in(question) is allowed


@pytest.mark.parametrize(
    "values", [{"flip": -0.1}, {"flip": 1.5}, {"flip": float("nan")}, {"scale_jitter": 0.9}, {"scale_jitter": -1}]
)
def test_bad_settings_are_named(values: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(values))):
        Augmentation(**values)


@pytest.mark.parametrize("window", [(0, 0, 0, 5), (3, 0, 2, 5), (0, 0, 1.5, 5)])
def test_impossible_windows_are_refused(window: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="window"):
        View(window)
