"""What labels tiles: a trained network, or the open-vocabulary method without training, behind one protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from seg_zero.open_vocabulary.segmenter import OpenVocabularySegmenter


class TileLabeller(Protocol):
    """A function of a picture and class names, such as
    :class:`seg_zero.remote_sensing.segmenter.RemoteSensingSegmenter`."""

    def probabilities(self, image: np.ndarray, labels: Sequence[str]) -> np.ndarray:
        """H x W x 3 uint8 and T names to T x H x W float32, larger where a class is more probable."""
        ...


@runtime_checkable
class CostMapper(Protocol):
    """A labeller that also shows what it decides from, such as
    :class:`seg_zero.remote_sensing.segmenter.RemoteSensingSegmenter`."""

    def cost_maps(self, image: np.ndarray, labels: Sequence[str]) -> np.ndarray:
        """H x W x 3 uint8 and T names to cosines K x T x h x w of K directions and sources."""
        ...


class OpenVocabularyLabeller:
    """The open-vocabulary method (RADSeg) as a labeller of tiles; give its segmenter the templates for aerial views."""

    def __init__(self, segmenter: OpenVocabularySegmenter) -> None:
        self.segmenter = segmenter

    def probabilities(self, image: np.ndarray, labels: Sequence[str]) -> np.ndarray:
        """See :class:`TileLabeller`; the classes of a pixel sum to 1, and those taken for absent are 0.

        Raises InputError for labels that are empty or repeated.
        """
        return self.segmenter.segment(image, labels).probabilities()
