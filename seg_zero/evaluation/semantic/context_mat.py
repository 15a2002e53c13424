"""Pascal Context's labels as they are published: MATLAB files of 459 categories, of which 59 are classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seg_zero.data.label_maps import Listing, Pair
from seg_zero.errors import InputError, one_line
from seg_zero.images import MAX_PIXELS
from seg_zero.metrics.semantic import IGNORE

VARIABLE = "LabelMap"
CATEGORIES = 459
# The categories that are classes, in the order of class_names.CONTEXT59: that of their names, where "diningtable" is
# called "table". The numbers are those of labels.txt beside the published files.
CLASSES = (
    *(2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65),
    *(68, 72, 80, 85, 98, 104, 105, 113, 115, 144, 158, 159, 162, 187, 189),
    *(207, 220, 232, 258, 259, 260, 284, 295, 296, 308, 324, 326, 347),
    *(349, 354, 355, 360, 366, 368, 397, 415, 416, 420, 424, 427, 440, 445),
    *(454, 458),
)
_TABLE = np.full(CATEGORIES + 1, IGNORE, dtype=np.uint8)
_TABLE[list(CLASSES)] = np.arange(len(CLASSES))


@dataclass(frozen=True)
class MatListing(Listing):
    """Pairs whose label maps are such files."""

    def truth(self, pair: Pair) -> np.ndarray:
        """See :func:`read_context_mat`."""
        return read_context_mat(pair.truth)


def read_context_mat(path: Path) -> np.ndarray:
    """A label map as classes from 0, uint8 H x W; IGNORE for unlabelled pixels and the other 400 categories.

    Raises InputError for a file that is missing, damaged or something else.
    """
    from scipy.io import loadmat

    if not path.is_file():
        raise InputError(f"label map {path} does not exist; complete the data set")
    try:
        found = loadmat(path, variable_names=[VARIABLE])
    except Exception as error:  # scipy raises what its parsers come across, NotImplementedError for MATLAB 7.3
        raise InputError(f"label map {path} cannot be read ({one_line(error)}); download it again") from error
    values = found.get(VARIABLE)
    if values is None:
        raise InputError(f"label map {path} holds no {VARIABLE}; give the files of Pascal Context's trainval.tar.gz")
    if values.ndim != 2 or values.dtype.kind not in "iu" or not 0 < values.size <= MAX_PIXELS:
        raise InputError(f"label map {path}: {VARIABLE} is {values.dtype} {values.shape}; it is to be H x W integers")
    highest, lowest = int(values.max()), int(values.min())
    if lowest < 0 or highest > CATEGORIES:
        wrong = lowest if lowest < 0 else highest
        raise InputError(f"label map {path} holds the value {wrong}; Pascal Context has 0 to {CATEGORIES}")
    return _TABLE[values]
