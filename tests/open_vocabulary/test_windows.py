"""Sliding windows: the published sizes, places and stitched features."""

from __future__ import annotations

import pytest
import torch
from helpers.golden import StubBackbone, load_golden, tensors, wave_image

from seg_zero.errors import InputError
from seg_zero.open_vocabulary.windows import check_windows, feature_map, network_size, resize, windows

DATA = load_golden("open_vocabulary", "sliding")


@pytest.mark.parametrize("case", [str(case) for case in DATA["cases"]])
def test_sizes_windows_and_stitching_meet_the_published_values(case: str) -> None:
    size, crop, stride = case.split("_")
    height, width = map(int, size.split("x"))
    c, s = int(crop[1:]), int(stride[1:])
    image = wave_image(height, width)
    new = network_size(height, width, c, s)
    assert list(new) == DATA[f"{case}__resized"].tolist()
    places = windows(*new, c, s)
    assert [[side // 16 for side in place] for place in places] == DATA[f"{case}__windows_patch_units"].tolist()
    rows, columns = DATA[f"{case}__grid"]
    assert len({place[0] for place in places}) == rows and len({place[1] for place in places}) == columns
    resized = resize(image, new)
    (probe, wanted) = tensors(DATA, f"{case}__resized_probe", f"{case}__stitched")
    assert torch.allclose(resized[0, :, :: max(1, new[0] // 7), :: max(1, new[1] // 7)], probe, atol=1e-5)
    assert abs(float(resized.double().mean()) - float(DATA[f"{case}__resized_mean"])) < 1e-6
    found = feature_map(image, StubBackbone(DATA), c, s)[0]
    assert torch.allclose(found, wanted, atol=1e-5, rtol=1e-4)


def test_a_batch_equals_its_images_one_by_one() -> None:
    images = torch.cat([wave_image(200, 500), wave_image(200, 500, phase=1.0)])
    together = feature_map(images, StubBackbone(DATA), 224, 112, at_once=3)
    alone = torch.cat([feature_map(image[None], StubBackbone(DATA), 224, 112) for image in images])
    assert torch.allclose(together, alone, atol=1e-6) and not torch.allclose(together[0], together[1], atol=1e-2)


def test_windows_of_a_map_without_context_equal_one_pass() -> None:
    linear = StubBackbone({"W": DATA["W"], "slope": DATA["slope"] * 0})
    image = wave_image(448, 672)
    assert torch.allclose(feature_map(image, linear, 224, 112), linear(image), atol=1e-5)


def test_images_may_be_on_another_device_than_the_backbone() -> None:
    def elsewhere(part: torch.Tensor) -> torch.Tensor:
        return torch.empty(len(part), 5, part.shape[2] // 16, part.shape[3] // 16, device="meta")

    found = feature_map(torch.rand(1, 3, 96, 96), elsewhere, crop=64, stride=32)
    assert found.device.type == "meta" and found.shape == (1, 5, 6, 6)


def test_windows_go_through_the_backbone_in_batches() -> None:
    backbone = StubBackbone(DATA)
    feature_map(wave_image(448, 672), backbone, 224, 112, at_once=8)
    assert [size[0] for size in backbone.sizes] == [8, 7]


@pytest.mark.parametrize(
    ("size", "crop", "stride", "wanted"),
    [
        ((1, 1), 336, 224, (336, 336)),
        ((20_000, 1), 336, 224, (20_160, 336)),
        ((100, 200), 0, 224, (96, 192)),
        ((1, 9000), 0, 0, (16, 2048)),
        ((512, 512), 0, 0, (512, 512)),
    ],
)
def test_network_sizes_of_odd_images(size: tuple, crop: int, stride: int, wanted: tuple) -> None:
    assert network_size(*size, crop, stride) == wanted


def test_every_patch_is_seen_by_a_window() -> None:
    for height, width, crop, stride in [(336, 336, 224, 112), (448, 672, 336, 224), (1120, 448, 336, 224)]:
        seen = torch.zeros(height, width)
        for top, left, bottom, right in windows(height, width, crop, stride):
            seen[top:bottom, left:right] += 1
        assert (seen > 0).all()


@pytest.mark.parametrize(
    ("crop", "stride", "message"),
    [
        (330, 224, "crop 330 is no multiple of 16; take 320 or 336"),
        (336, 100, "stride 100 is no multiple of 16; take 96 or 112"),
        (8, 16, "crop 8 is no multiple of 16; take 16 or 32"),
        (-16, 16, "crop -16 is not above 0; take 16 or 32, or 0 for one pass"),
        (224, 336, "stride 336 is above the crop 224"),
        (4096, 224, "crop 4096 is above 2048"),
        (336, 0, "stride 0 is not above 0; take 16 or 32"),
    ],
)
def test_bad_windows_are_named(crop: int, stride: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_windows(crop, stride)


def test_good_windows_pass() -> None:
    check_windows(336, 224)
    check_windows(0, 7)
