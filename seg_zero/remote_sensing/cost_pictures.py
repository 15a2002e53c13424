"""Heat maps of the cost maps: where each text is seen, in each direction of the picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from seg_zero.errors import InputError
from seg_zero.open_vocabulary.pictures import heatmap_grid

MOST_NAMES = 40  # rows of a sheet: 15,000 pixels
DIRECTIONS = ("as it is", "90 degrees", "180 degrees", "270 degrees")


def scaled(costs: np.ndarray) -> np.ndarray:
    """Costs of any shape to 0..1, by the least and the highest of all; all 0 where they are all the same."""
    low, high = float(costs.min()), float(costs.max())
    return (costs - low) / (high - low) if high > low else np.zeros_like(costs)


def cost_sheet(image: np.ndarray, costs: np.ndarray, names: Sequence[str]) -> Image.Image:
    """The pictures of :func:`cost_pictures` with a row for each text. Raises InputError for more than MOST_NAMES."""
    if len(names) > MOST_NAMES:
        raise InputError(f"{len(names)} labels are too many rows of cost maps; give at most {MOST_NAMES}")
    rows = cost_pictures(image, costs, names, columns=1 + len(costs))
    sheet = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)), (255, 255, 255))
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    return sheet


def cost_pictures(image: np.ndarray, costs: np.ndarray, names: Sequence[str], columns: int = 3) -> list[Image.Image]:
    """For each text a picture: the tile, the cost map of each direction and DINO's, each with its highest cosine.

    columns: of the grid in a picture.
    costs: K x T x h x w, as :meth:`seg_zero.remote_sensing.segmenter.RemoteSensingSegmenter.cost_maps` gives them.
    Colours mean the same in all maps of CLIP, and in all of DINO. Raises InputError for too few or many names.
    """
    if len(names) != costs.shape[1]:
        raise InputError(f"{len(names)} names for cost maps of {costs.shape[1]} texts; give one for each")
    turned = 4 if len(costs) >= 4 else 1
    sources = [*DIRECTIONS[:turned], *["DINO"] * (len(costs) - turned)]
    values = np.concatenate([scaled(part) for part in (costs[:turned], costs[turned:]) if len(part)])
    original = Image.fromarray(image)
    found = []
    for text, name in enumerate(names):
        maps = zip(sources, values[:, text], costs[:, text], strict=True)
        titled = ((f"{source}, up to {cost.max():.2f}", one) for source, one, cost in maps)
        found.append(heatmap_grid(original, titled, columns, highest=False, title=name))
    return found
