"""Vectors for the masks of a synthetic room, as encoders of several kinds would make them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

WIDTH = 64


@dataclass
class ToyEncoder:
    """A random vector for each object; the vector of a mask is that, what all pictures share, and noise.

    different: expected cosine of masks of two objects. same: of two masks of one object, at least ``different``. Real
    encoders differ in both: CLIP ViT-H has about 0.6 and 0.9.
    """

    different: float
    same: float
    seed: int = 0
    _objects: dict[int, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.different <= self.same <= 1:
            raise ValueError(f"cosines {self.different} and {self.same} are not in order within 0..1")
        self._rng = np.random.default_rng(self.seed)
        self._shared = self._direction()

    def _direction(self) -> np.ndarray:
        vector = self._rng.standard_normal(WIDTH)
        unit: np.ndarray = vector / np.linalg.norm(vector)
        return unit

    def __call__(self, identity: int) -> np.ndarray:
        """The vector of a mask of an object, another one at every call."""
        own = self._objects.setdefault(identity, self._direction())
        parts = (self.different, self._shared), (self.same - self.different, own), (1 - self.same, self._direction())
        vector: np.ndarray = np.sum([np.sqrt(weight) * part for weight, part in parts], axis=0)
        return vector
