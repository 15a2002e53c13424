"""What comes in: a frame, and the masks of a frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seg_zero.errors import InputError


class BadFrame(InputError):
    """A frame that cannot be used; a scan names it, counts it and goes on."""


@dataclass(frozen=True)
class Frame:
    """One registered colour and depth picture.

    number: of the frame in its sequence. colour: uint8 H x W x 3, RGB. depth: float32 H x W, metres along the optical
    axis, 0 where unknown. intrinsics: 3 x 3, pixel centres at whole numbers. pose: 4 x 4, camera to world.
    crop: pixels cut off on every side, which masks of the uncut picture lose as well.
    """

    number: int
    colour: np.ndarray
    depth: np.ndarray
    intrinsics: np.ndarray
    pose: np.ndarray
    crop: int = 0

    def __post_init__(self) -> None:
        height, width = self.depth.shape[:2]
        if self.depth.ndim != 2 or self.colour.shape != (height, width, 3):
            raise BadFrame(
                f"frame {self.number}: colour has shape {self.colour.shape} and depth {self.depth.shape}; "
                "give H x W x 3 and H x W"
            )
        if self.intrinsics.shape != (3, 3) or not np.isfinite(self.intrinsics).all():
            raise BadFrame(f"frame {self.number}: the intrinsics are no 3 x 3 numbers; check the camera's file")
        if self.pose.shape != (4, 4) or not np.isfinite(self.pose).all():
            raise BadFrame(f"frame {self.number}: the pose is no 4 x 4 finite numbers; check the trajectory")


@dataclass(frozen=True)
class FrameMasks:
    """Masks of a frame as a label map.

    labels: whole numbers H x W, 0 for no mask. features: vectors by label, for any of the labels.
    """

    labels: np.ndarray
    features: dict[int, np.ndarray] | None = None

    @property
    def count(self) -> int:
        return int(np.count_nonzero(np.bincount(self.labels[self.labels > 0])))

    def feature(self, number: int) -> np.ndarray | None:
        return None if self.features is None else self.features.get(number)


def paint(masks: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Label map int32 H x W of masks bool N x H x W: mask i is i + 1, those with the largest key first.

    Smaller ones come on top of larger ones, if keys are areas: a part is not lost under its whole.
    """
    labels = np.zeros(masks.shape[1:], dtype=np.int32)
    for i in np.argsort(-np.asarray(keys), kind="stable"):
        labels[masks[i]] = i + 1
    return labels
