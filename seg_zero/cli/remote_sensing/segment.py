"""``seg-zero remote-sensing segment TILE --labels building,road,water``: GeoTIFF and polygons of a tile of any size."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from seg_zero.cli.options import outputs_of
from seg_zero.cli.remote_sensing.labeller import add_labeller_options, load_method, method_of, settings_in
from seg_zero.command_line import CommandParser
from seg_zero.errors import InputError, print_error, print_note
from seg_zero.files import shown

OUTPUTS = ("labels", "geojson", "gpkg", "preview", "costs")
DEFAULT_OUTPUTS = "labels,geojson,preview"
WITHOUT_PLACE = "labels,preview"


def parser() -> CommandParser:
    made = CommandParser("remote-sensing segment", main.__doc__)
    made.add_argument("tiles", nargs="+", type=Path, metavar="TILE", help="GeoTIFF, or any raster that GDAL reads")
    made.add_argument("--labels", required=True, help="building,road,water; or a .txt file, a label a line, or .json")
    made.add_argument("--out", type=Path, default=Path("outputs/remote_sensing"), help="folder for the results")
    made.add_argument(
        "--outputs",
        help=f"any of {','.join(OUTPUTS)} (default: {DEFAULT_OUTPUTS}; {WITHOUT_PLACE} for a tile without a place)",
    )
    made.add_argument("--window", type=int, default=512, help="side of the pictures that the model sees, in pixels")
    made.add_argument("--overlap", type=int, default=128, help="pixels that neighbouring windows share at least")
    made.add_argument("--bands", help="three bands for red, green and blue, such as 4,3,2 (default: the file's)")
    made.add_argument(
        "--stretch", metavar="LOW,HIGH", help="percentiles that become 0 and 255 (default: 2,98; none for 8 bits)"
    )
    made.add_argument("--crs", help="of tiles that name none, such as EPSG:32633")
    made.add_argument("--min_pixels", type=int, default=16, help="smaller polygons are left out")
    made.add_argument("--json", action="store_true", help="print one JSON object per tile and nothing else")
    add_labeller_options(made)
    # A label that is absent from one window may be in the next: unless it is asked for, every pixel gets a label.
    made.set_defaults(method_defaults={"denoising": 0.0})
    for action in made._actions:
        if action.dest == "denoising":
            action.help = "labels that stay below in a window are taken for absent there (default: 0)"
    return made


def main(argv: Sequence[str]) -> int:
    """Label tiles of any size by text, in windows; repeat an interrupted command to go on."""
    args = parser().parse_args(argv)
    method = method_of(args)
    wanted = None if args.outputs is None else outputs_of(args.outputs, OUTPUTS)
    if method != "rskt" and "costs" in (wanted or ()):
        raise InputError(f"--outputs costs draws the cost maps of a trained network; --method {method} has none")
    from seg_zero.open_vocabulary.labels import parse_labels, split_labels
    from seg_zero.remote_sensing.geo.label_tile import TileSettings
    from seg_zero.remote_sensing.geo.windows import spans

    labels = split_labels(args.labels)
    parse_labels(labels)
    settings = TileSettings(
        args.window, args.overlap, _numbers("--bands", args.bands, int), _numbers("--stretch", args.stretch, float)
    )
    spans(args.window, args.window, args.overlap)  # whether they fit
    stems = [tile.stem for tile in args.tiles]
    twice = next((stem for stem in stems if stems.count(stem) > 1), None)
    if twice is not None:
        raise InputError(f"two tiles are called {twice}; give each an --out of its own")
    model = settings_in(args, method)
    load = cache(lambda: _labeller(args, method))
    failures = []
    for tile in args.tiles:
        try:
            _one(args, tile, labels, settings, wanted, model, load)
        except InputError as error:
            if len(args.tiles) == 1:
                raise
            failures.append(str(error))
    if failures:
        print_error(f"{len(failures)} of {len(args.tiles)} tiles could not be labelled:", *failures)
    return 1 if failures else 0


def _one(
    args: argparse.Namespace,
    tile: Path,
    labels: Sequence[str],
    settings: Any,
    wanted: Sequence[str] | None,
    model: dict[str, Any],
    load: Any,
) -> None:
    from seg_zero.cli.progress import LateBar
    from seg_zero.remote_sensing.geo.segment import segment_tile

    chosen = wanted or _outputs_for(tile, args.crs)
    with LateBar(unit="window", desc=tile.name) as bar:

        def progress(done: int, total: int, old: bool) -> None:
            bar.move_to(done, total, old=old)

        result = segment_tile(
            load, tile, labels, args.out, settings, outputs=chosen, crs=args.crs, minimal=args.min_pixels, model=model,
            progress=progress,
        )  # fmt: skip
    if args.json:
        print(json.dumps({"tile": shown(tile), **result.record()}, ensure_ascii=False), flush=True)
        return
    areas = sorted(result.areas.items(), key=lambda pair: -pair[1])
    found = ", ".join(f"{name} {area:.1%}" for name, area in areas if area > 0)
    width, height = result.size
    polygons = "" if result.polygons is None else f"; {result.polygons:,} polygons"
    empty = "" if result.data > 0.9995 else f"; {1 - result.data:.1%} no data"
    print(f"{shown(tile)}, {width}x{height}: {found}{empty}{polygons}")
    print("  " + "  ".join(shown(path) for path in result.files.values()), flush=True)


def _outputs_for(tile: Path, crs: str | None) -> tuple[str, ...]:
    """Outputs that the tile allows: without a place in the world there are no coordinates for polygons."""
    from seg_zero.remote_sensing.geo.raster import has_place

    named, placed = has_place(tile)
    if placed and (named or crs is not None):
        return outputs_of(DEFAULT_OUTPUTS, OUTPUTS)
    remedy = (
        "give --crs, or --outputs gpkg for its own coordinates" if placed else "--outputs gpkg gives them in pixels"
    )
    print_note(f"{shown(tile)} has no {'CRS' if placed else 'transform'}, so no GeoJSON is written; {remedy}")
    return outputs_of(WITHOUT_PLACE, OUTPUTS)


def _labeller(args: argparse.Namespace, method: str) -> Any:
    found = load_method(args, method)
    if method == "rskt":
        return found
    from seg_zero.open_vocabulary.segmenter import OpenVocabularySegmenter
    from seg_zero.remote_sensing.labelling import OpenVocabularyLabeller

    assert isinstance(found, OpenVocabularySegmenter)
    return OpenVocabularyLabeller(found)


def _numbers(option: str, text: str | None, kind: type[int] | type[float]) -> Any:
    if text is None:
        return None
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError:
        example = "4,3,2" if kind is int else "2,98"
        raise InputError(f"{option} {text!r} is no list of numbers; give one such as {example}") from None
