"""Memory and time of labelling a large tile, by its size: windows, blending, polygons and files.

    python benchmarks/tile_memory.py                     # 2,000 and 8,000 pixels a side
    python benchmarks/tile_memory.py --sides 20000       # some minutes on two cores

The model is trivial (which of the labels' greys is nearest), so that all else is seen. Tiles are made of squares, of
which there are equally many whatever the size, and written row by row. Each size runs in a process of its own; the peak
is that of its resident memory, less what the imports took.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window

from seg_zero.cli.demo import describe_machine
from seg_zero.remote_sensing.geo.segment import segment_tile

LABELS = ("dark", "grey", "bright")
GREYS = np.array([40, 120, 210], np.float32)
SQUARES = 40  # along each side
STRIP = 256  # rows of the tile written at a time


class NearestGrey:
    """Labels pixels by their grey."""

    def probabilities(self, image: np.ndarray, labels: Sequence[str]) -> np.ndarray:
        away = np.abs(image.mean(axis=2, dtype=np.float32) - GREYS[: len(labels), None, None])
        return 1 / (1 + away)

    def probabilities_batch(self, images: Sequence[np.ndarray], labels: Sequence[str]) -> list[np.ndarray]:
        return [self.probabilities(image, labels) for image in images]


def write_tile(path: Path, side: int) -> None:
    """A GeoTIFF of side x side pixels of squares, three bands."""
    greys = np.random.default_rng(0).choice(GREYS.astype(np.uint8), (SQUARES, SQUARES))
    places = np.arange(side) * SQUARES // side
    options = {"compress": "deflate", "tiled": True, "blockxsize": 256, "blockysize": 256}
    place = from_origin(500_000, 5_000_000, 0.5, 0.5)
    with rasterio.open(
        path, "w", driver="GTiff", width=side, height=side, count=3, dtype="uint8", crs="EPSG:32633", transform=place,
        **options,
    ) as tile:  # fmt: skip
        for top in range(0, side, STRIP):
            strip = greys[places[top : top + STRIP]][:, places]
            tile.write(np.stack([strip] * 3), window=Window(0, top, side, len(strip)))


def resident() -> float:
    """The peak of this process's resident memory so far, MB; getrusage would count what its parent had."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1e3


def measure(tile: Path) -> None:
    """Print one line of the table: run in a process of its own."""
    before, start = resident(), time.perf_counter()
    outputs = ("labels", "geojson", "gpkg", "preview")
    result = segment_tile(NearestGrey, tile, LABELS, tile.with_name("out"), outputs=outputs)
    seconds, peak = time.perf_counter() - start, resident()
    print(
        f"{result.size[0]:>8,}{seconds:>10.1f}{peak - before:>12,.0f}{peak:>12,.0f}{result.polygons:>10,}", flush=True
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[2000, 8000], help="pixels (default: %(default)s)")
    parser.add_argument("--tile", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.tile is not None:
        measure(args.tile)
        return 0
    print(describe_machine())
    print(f"{'side':>8}{'seconds':>10}{'peak, MB':>12}{'in all, MB':>12}{'polygons':>10}", flush=True)
    for side in args.sides:
        with tempfile.TemporaryDirectory() as folder:
            tile = Path(folder) / "tile.tif"
            write_tile(tile, side)
            subprocess.run([sys.executable, __file__, "--tile", str(tile)], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
