"""What a picture of an answer shows: true colours, hues that everyone can tell apart, legible numbers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_dilation

from seg_zero.answer import parse_answer
from seg_zero.masks import encode_mask, mask_to_prompt_object
from seg_zero.objects import PromptObject
from seg_zero.prompting import PromptSpec
from seg_zero.visualize import OBJECT_COLOURS, colour_of, draw_answer, overlay

# Machado et al. 2009, "A Physiologically-based Model for Simulation of Color Vision Deficiency", severity 1.
VISION = {
    "typical": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protan": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deutan": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.01182, 0.04294, 0.968881)),
    "tritan": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.3039)),
}
GREEN = (40, 160, 60)


def photo(side: int = 300) -> Image.Image:
    """A busy picture, no two neighbours equal."""
    values = np.random.default_rng(3).integers(60, 250, (side, side, 3), dtype=np.uint8)
    return Image.fromarray(values)


def discs(side: int = 300) -> np.ndarray:
    ys, xs = np.mgrid[:side, :side]
    return np.array([(xs - x) ** 2 + (ys - y) ** 2 < 50**2 for x, y in ((75, 75), (220, 80), (150, 220))])


def test_pixels_of_an_object_keep_their_colours_and_the_rest_is_dimmed() -> None:
    image, masks = photo(), discs()[:1]
    drawn, before = np.asarray(overlay(image, masks)).astype(int), np.asarray(image).astype(int)
    assert (drawn[masks[0]] == before[masks[0]]).all()
    far = ~masks[0]
    far[15:140, 15:140] = False  # the outline
    assert drawn[far].mean() < 0.6 * before[far].mean()
    lit = np.asarray(overlay(image, masks, dimmed=0)).astype(int)
    assert (lit[far] == before[far]).all()


def test_a_green_object_stays_green() -> None:
    image = Image.new("RGB", (200, 200), GREEN)
    mask = np.zeros((200, 200), dtype=bool)
    mask[60:140, 60:140] = True
    assert {tuple(pixel) for pixel in np.asarray(overlay(image, mask[None]))[mask]} == {GREEN}


def test_a_picture_without_a_mask_stays_as_it_is() -> None:
    image, none = photo(), np.zeros((1, 300, 300), dtype=bool)
    for masks in (none, none[:0]):
        assert (np.asarray(overlay(image, masks)) == np.asarray(image)).all()


def test_each_object_is_outlined_in_its_hue() -> None:
    masks = discs()
    drawn = np.asarray(overlay(Image.new("RGB", (300, 300), (128, 128, 128)), masks))
    for index, mask in enumerate(masks):
        near = binary_dilation(mask, iterations=3) & ~mask
        hues = {tuple(pixel) for pixel in drawn[near].tolist()} & set(OBJECT_COLOURS)
        assert hues == {colour_of(index)}


@pytest.mark.parametrize("vision", VISION)
def test_hues_are_apart_for_every_colour_vision(vision: str) -> None:
    seen = [_lab(np.clip(np.array(VISION[vision]) @ _linear(colour), 0, 1)) for colour in OBJECT_COLOURS]
    least = min(float(np.linalg.norm(one - other)) for one, other in itertools.combinations(seen, 2))
    assert least > 17  # 2.3 is just noticeable side by side


def _linear(colour: tuple[int, int, int]) -> np.ndarray:
    value = np.array(colour) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def _lab(linear: np.ndarray) -> np.ndarray:
    """CIELAB at D65."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    ratio = to_xyz @ linear / np.array([0.9505, 1.0, 1.089])
    f = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_several_objects_are_numbered_and_a_single_one_is_not() -> None:
    image, masks = Image.new("RGB", (300, 300), (128, 128, 128)), discs()
    alone = np.asarray(overlay(image, masks[:1]))
    assert (alone[masks[0]] == 128).all()
    plated = np.asarray(overlay(image, masks))
    for mask in masks:  # the plate reaches into its mask
        assert not (plated[mask] == 128).all()
    other = np.asarray(overlay(image, masks, numbers=[1, 2, 13]))
    assert (other != plated).any()


def test_a_number_is_readable_on_its_plate() -> None:
    """Contrast of ink on plate at least 4.5 to 1, for every hue."""
    image, masks = Image.new("RGB", (300, 300), (128, 128, 128)), discs()[:1]
    for number in range(1, len(OBJECT_COLOURS) + 1):
        drawn = np.asarray(overlay(image, masks, numbers=[number]))[18:40, 64:88]
        light = np.array([_linear(pixel) @ (0.2126, 0.7152, 0.0722) for pixel in drawn.reshape(-1, 3)])
        plate = _linear(colour_of(number - 1)) @ (0.2126, 0.7152, 0.0722)
        contrast = np.maximum(light, plate) + 0.05
        assert (contrast / (np.minimum(light, plate) + 0.05)).max() >= 4.5
        assert (drawn.reshape(-1, 3) == colour_of(number - 1)).all(axis=1).sum() > 50


def test_plates_of_objects_at_one_place_do_not_cover_each_other() -> None:
    image = Image.new("RGB", (300, 300), (128, 128, 128))
    masks = np.zeros((2, 300, 300), dtype=bool)
    masks[0, 100:250, 60:240] = True
    masks[1, 102:200, 80:220] = True
    drawn = np.asarray(overlay(image, masks, numbers=[1, 2]))
    counts = [(drawn == colour_of(index)).all(axis=2) for index in (0, 1)]
    solid = [int(np.lib.stride_tricks.sliding_window_view(one, (4, 4)).all(axis=(2, 3)).sum()) for one in counts]
    assert min(solid) > 20


def test_prompts_have_the_hue_of_their_mask_or_none() -> None:
    image, masks = Image.new("RGB", (300, 300), (128, 128, 128)), discs()[:2]
    prompts = [mask_to_prompt_object(mask) for mask in masks]

    def tones(drawn: Image.Image) -> set[tuple[int, int, int]]:
        inside = np.asarray(drawn)[masks.any(axis=0)]
        return {tuple(pixel) for pixel in inside.tolist()}

    assert {colour_of(0), colour_of(1)} <= tones(overlay(image, masks, prompts, numbers=[1, 2]))
    white = (255, 255, 255)  # discs have a white rim, so their middle tells

    def middle(drawn: Image.Image) -> tuple[int, ...]:
        x, y = prompts[1].points[0]
        return tuple(np.asarray(drawn)[round(y), round(x)].tolist())

    assert middle(overlay(image, masks, prompts)) == colour_of(1)
    assert middle(overlay(image, masks.any(axis=0)[None], prompts)) == colour_of(0)
    assert middle(overlay(image, masks, [*prompts, prompts[1]])) == white
    assert middle(overlay(image, masks[:1], prompts, numbers=[1])) == white


@pytest.mark.parametrize("far", [1e3, 1e9, 1e30])
def test_what_lies_far_outside_is_not_drawn(far: float) -> None:
    image, none = Image.new("RGB", (40, 30), "grey"), np.zeros((0, 30, 40), dtype=bool)
    outside = PromptObject((-far, -far, far, far), ((far, 5.0), (5.0, -far)))
    assert np.array_equal(np.asarray(overlay(image, none, [outside])), np.asarray(image))
    side = np.asarray(overlay(image, none, [PromptObject((-far, 10.0, far, far))]))
    assert (side[10] != 128).any() and (side[:9] == 128).all() and (side[12:] == 128).all()


def test_ignored_pixels_are_hatched() -> None:
    image, ignored = Image.new("RGB", (100, 100), GREEN), np.zeros((100, 100), dtype=bool)
    ignored[20:60, 20:60] = True
    white = (np.asarray(overlay(image, ignored[None][:0], ignored=ignored)) == 255).all(axis=2)
    assert 0.1 < white[ignored].mean() < 0.5 and not white[~ignored].any()


@pytest.mark.parametrize("side", [1, 2, 7])
def test_the_smallest_pictures_and_masks_at_the_edge_can_be_drawn(side: int) -> None:
    whole = np.ones((2, side, side), dtype=bool)
    prompt = mask_to_prompt_object(whole[0])
    assert overlay(Image.new("RGB", (side, side)), whole, [prompt, prompt]).size == (side, side)


def test_small_pictures_are_enlarged_by_a_whole_number() -> None:
    image, mask = photo(112), np.zeros((1, 112, 112), dtype=bool)
    mask[0, 30:60, 30:60] = True
    drawn = overlay(image, mask, min_side=300)
    assert drawn.size == (336, 336)
    large = np.asarray(image.resize((336, 336), Image.Resampling.NEAREST))
    inside = mask[0].repeat(3, axis=0).repeat(3, axis=1)
    assert (np.asarray(drawn)[inside] == large[inside]).all()


def test_a_stored_answer_is_drawn_with_its_mask_and_boxes() -> None:
    image, mask = Image.new("RGB", (100, 50), GREEN), np.zeros((50, 100), dtype=bool)
    mask[10:40, 20:60] = True
    text = '<think>t</think><answer>[{"bbox_2d": [168, 168, 504, 672], "point_2d": [336, 400]}]</answer>'
    answer = parse_answer(text)
    assert answer.objects
    drawn = np.asarray(draw_answer(image, (200, 100), answer, encode_mask(mask), PromptSpec("multi", 840)))
    assert tuple(drawn[30, 50]) == GREEN and drawn[95, 5].sum() < sum(GREEN)
    assert (drawn == colour_of(0)).all(axis=2).any()
