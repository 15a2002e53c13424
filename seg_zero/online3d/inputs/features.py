"""A vector for each mask of a frame: of crops of the picture, or of the patches that lie in the mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.ndimage import find_objects
from scipy.sparse import coo_array

from seg_zero.encoders.radio_versions import PATCH
from seg_zero.encoders.spaces import Space
from seg_zero.online3d.inputs.frames import Frame, FrameMasks

if TYPE_CHECKING:
    from seg_zero.encoders.image_towers import ImageTower
    from seg_zero.encoders.radio import RadioEncoder

FrameFeatures = Callable[[Frame, np.ndarray], dict[int, np.ndarray]]
MARGINS = (0.0, 0.1, 0.2)  # of the box, on every side; a crop each
CROPS_AT_ONCE = 48


@dataclass(frozen=True)
class CropFeatures:
    """Three crops around each mask, widened step by step, on white squares: the mean of their unit vectors."""

    tower: ImageTower

    def __call__(self, frame: Frame, labels: np.ndarray) -> dict[int, np.ndarray]:
        """Unit vectors by label of the map H x W."""
        picture = Image.fromarray(np.ascontiguousarray(frame.colour))
        boxes = {label: box for label, box in enumerate(find_objects(labels), 1) if box is not None}
        crops = [square_crop(picture, box, margin) for box in boxes.values() for margin in MARGINS]
        if not crops:
            return {}
        parts = [self.tower.encode(crops[at : at + CROPS_AT_ONCE]) for at in range(0, len(crops), CROPS_AT_ONCE)]
        vectors = F.normalize(torch.cat(parts), dim=-1).reshape(len(boxes), len(MARGINS), -1).mean(dim=1)
        return dict(zip(boxes, F.normalize(vectors, dim=-1).numpy(), strict=True))


def square_crop(picture: Image.Image, box: tuple[slice, slice], margin: float) -> Image.Image:
    """The part of a picture in a box (rows, columns), wider by a fraction of it on every side, in a white square."""
    rows, columns = box
    extra_x, extra_y = margin * (columns.stop - columns.start), margin * (rows.stop - rows.start)
    part = picture.crop(
        (
            max(0, round(columns.start - extra_x)),
            max(0, round(rows.start - extra_y)),
            min(picture.width, round(columns.stop + extra_x)),
            min(picture.height, round(rows.stop + extra_y)),
        )
    )
    side = max(part.size)
    square = Image.new("RGB", (side, side), (255, 255, 255))
    square.paste(part, ((side - part.width) // 2, (side - part.height) // 2))
    return square


class PatchFeatures:
    """One pass over the whole picture; a mask's vector is the mean of its patches' unit vectors in the texts' space."""

    def __init__(self, encoder: RadioEncoder, adaptor: str) -> None:
        self._encoder, self._head = encoder, encoder.adaptor(adaptor).summary

    @torch.inference_mode()
    def __call__(self, frame: Frame, labels: np.ndarray) -> dict[int, np.ndarray]:
        """Unit vectors by label of the map H x W; patches weigh as many of the mask's pixels as they hold."""
        height, width = labels.shape
        down, across = (max(1, round(side / PATCH)) for side in (height, width))
        image = torch.from_numpy(np.ascontiguousarray(frame.colour)).permute(2, 0, 1)[None].float() / 255
        size = (down * PATCH, across * PATCH)
        resized = F.interpolate(image, size=size, mode="bilinear", align_corners=False, antialias=True)
        found = self._encoder.features(resized)[0].flatten(1).T
        patches = F.normalize(self._head(found).float(), dim=-1).cpu().numpy()
        names = np.unique(labels[labels > 0])
        rows, columns = np.nonzero(labels > 0)
        patch = (rows * down // height) * across + columns * across // width
        label = np.searchsorted(names, labels[rows, columns])
        weights = coo_array((np.ones(len(patch)), (label, patch)), shape=(len(names), down * across)).tocsr()
        vectors = np.asarray(weights @ patches)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return dict(zip(names.tolist(), vectors.astype(np.float32), strict=True))


def features_of(space: Space, device: str | None = None) -> FrameFeatures:
    """Patches of a RADIO backbone, or crops for towers that see whole pictures. Raises InputError if it cannot load."""
    if space.kind == "radio":
        return PatchFeatures(space.backbone(device), space.second)
    return CropFeatures(space.image_tower(device))


@dataclass(frozen=True)
class DescribedMasks:
    """Masks of another source with vectors, which replace those that it brings."""

    masks: Callable[[Frame], FrameMasks]
    features: FrameFeatures

    def __call__(self, frame: Frame) -> FrameMasks:
        found = self.masks(frame)
        return FrameMasks(found.labels, self.features(frame, found.labels))
