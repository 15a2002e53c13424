"""Sliding windows in feature space: crops through the backbone in batches, features averaged where they overlap."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F

from seg_zero.encoders.radio_versions import PATCH
from seg_zero.errors import InputError

LONGEST = 2048  # pixels that a side of one pass may have: the backbone's table of positions ends there
WINDOWS_AT_ONCE = 8

Backbone = Callable[[torch.Tensor], torch.Tensor]  # n x 3 x H x W to n x D x H/16 x W/16
Window = tuple[int, int, int, int]  # top, left, bottom, right in pixels


def check_windows(crop: int, stride: int) -> None:
    """Raises InputError unless windows of ``crop`` pixels every ``stride`` pixels cover an image; 0: no windows."""
    for name, value in (("crop", crop), ("stride", stride)):
        if crop and (value < PATCH or value % PATCH):
            lower = max(PATCH, value // PATCH * PATCH)
            fault = f"is no multiple of {PATCH}" if value > 0 else "is not above 0"
            whole = ", or 0 for one pass without windows" if name == "crop" and value < 0 else ""
            raise InputError(f"{name} {value} {fault}; take {lower} or {lower + PATCH}{whole}")
    if crop > LONGEST:
        raise InputError(f"crop {crop} is above {LONGEST}, the longest side of a pass; take a smaller one")
    if crop and stride > crop:
        raise InputError(f"stride {stride} is above the crop {crop} and would leave gaps; take {crop} or less")


def network_size(height: int, width: int, crop: int, stride: int, longest: int = LONGEST) -> tuple[int, int]:
    """The (height, width) that an image is resized to, as RADSeg does.

    With windows, sides become multiples of the stride, and at least the crop. Without (``crop`` 0), the nearest
    multiples of 16, at most ``longest``.
    """
    if not crop:
        scale = min(1.0, longest / max(height, width))
        sides = (max(PATCH, round(side * scale / PATCH) * PATCH) for side in (height, width))
        return next(sides), next(sides)
    if height % stride == 0 and width % stride == 0:
        return height, width
    larger = max(height, width)
    length = math.ceil(larger / stride) * stride
    grown = (int(side * length / larger) for side in (height, width))
    rows, columns = (max(math.ceil(side / stride) * stride, crop) for side in grown)
    return rows, columns


def windows(height: int, width: int, crop: int, stride: int) -> list[Window]:
    """The windows of an image in raster order; the last of a row or column is shifted back inside."""
    if not crop:
        return [(0, 0, height, width)]
    return [
        (top, left, bottom, right)
        for top, bottom in _spans(height, crop, stride)
        for left, right in _spans(width, crop, stride)
    ]


def _spans(length: int, crop: int, stride: int) -> Iterator[tuple[int, int]]:
    for index in range(max(length - crop + stride - 1, 0) // stride + 1):
        end = min(index * stride + crop, length)
        yield max(end - crop, 0), end


def resize(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """B x C x H x W images at another (height, width), bilinear."""
    if images.shape[-2:] == size:
        return images
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False)


def feature_map(
    images: torch.Tensor,
    backbone: Backbone,
    crop: int = 336,
    stride: int = 224,
    at_once: int = WINDOWS_AT_ONCE,
    longest: int = LONGEST,
) -> torch.Tensor:
    """B x 3 x H x W images to B x D x h x w features, a patch each.

    Images are resized by :func:`network_size`. All windows of all images go through the backbone ``at_once``, and
    each image's features are summed at the windows' places and divided by how many windows saw the patch.
    """
    images = resize(images, network_size(images.shape[-2], images.shape[-1], crop, stride, longest))
    height, width = images.shape[-2:]
    places = windows(height, width, crop, stride)
    if len(places) == 1:
        return torch.cat([backbone(part) for part in images.split(at_once)])
    hits = images.new_zeros(height // PATCH, width // PATCH)
    for place in places:
        hits[_patches(place)] += 1
    todo = [(image, place) for image in range(len(images)) for place in places]
    total: torch.Tensor | None = None
    for start in range(0, len(todo), at_once):
        part = todo[start : start + at_once]
        found = backbone(torch.stack([images[i, :, t:b, le:r] for i, (t, le, b, r) in part]))
        if total is None:
            total = found.new_zeros(len(images), found.shape[1], *hits.shape)
        for (image, place), features in zip(part, found, strict=True):
            rows, columns = _patches(place)
            total[image, :, rows, columns] += features
    assert total is not None
    return total / hits.to(total)


def _patches(place: Window) -> tuple[slice, slice]:
    top, left, bottom, right = (side // PATCH for side in place)
    return slice(top, bottom), slice(left, right)
