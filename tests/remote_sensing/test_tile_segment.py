"""A tile in, labels and polygons out: place, names, resumption, bands, stretch, nodata, and what is refused."""

from __future__ import annotations

import json
import sqlite3
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from helpers.geo_tiles import LABELS, ROTATED, UTM, BrightestBand, waves, write_tile
from helpers.radio import small_folder
from helpers.remote_sensing import telling_network
from PIL import Image
from rasterio.transform import from_origin
from rasterio.warp import transform as warp_points

from seg_zero.cli.main import main
from seg_zero.errors import InputError
from seg_zero.remote_sensing.geo.label_file import read_classes
from seg_zero.remote_sensing.geo.label_tile import TileSettings
from seg_zero.remote_sensing.geo.polygons import signed_area
from seg_zero.remote_sensing.geo.raster import open_raster
from seg_zero.remote_sensing.geo.segment import TileResult, segment_tile
from seg_zero.remote_sensing.geo.vector_files import geometry
from seg_zero.remote_sensing.model.files import save_network

SMALL = TileSettings(window=64, overlap=16)
ALL = ("labels", "geojson", "gpkg", "preview")


def segment(tile: Path, out: Path, labeller: BrightestBand | None = None, **options: Any) -> TileResult:
    given = {"outputs": ALL, "minimal": 1, **options}
    return segment_tile(lambda: labeller or BrightestBand(), tile, LABELS, out, given.pop("settings", SMALL), **given)


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as source:
        found: np.ndarray = source.read(1)
        return found


def rings_of(blob: bytes) -> list[np.ndarray]:
    """The rings of a geometry as GeoPackage keeps it."""
    assert blob[:2] == b"GP" and blob[3] == 3 and struct.unpack_from("<BI", blob, 40) == (1, 3)
    (count,), place, rings = struct.unpack_from("<I", blob, 45), 49, []
    for _ in range(count):
        (points,) = struct.unpack_from("<I", blob, place)
        rings.append(np.frombuffer(blob, "<f8", 2 * points, place + 4).reshape(-1, 2))
        place += 4 + 16 * points
    assert place == len(blob)
    return rings


def test_labels_keep_the_place_and_name_the_classes(tmp_path: Path) -> None:
    values = waves(150, 200)
    tile = write_tile(tmp_path / "tile.tif", values)
    result = segment(tile, tmp_path / "out", settings=TileSettings(window=256, overlap=0))
    with rasterio.open(result.files["labels"]) as source:
        assert source.crs == UTM["crs"] and source.transform == UTM["transform"] and source.nodata == 0
        assert source.tags(1) == {"CLASS_1": "building", "CLASS_2": "road", "CLASS_3": "water"}
        assert source.colormap(1)[0][3] == 0 and source.colormap(1)[1][3] == 255
    assert read_classes(result.files["labels"]) == LABELS
    wanted = (values - 0.3 * values.mean(axis=(1, 2), keepdims=True)).argmax(axis=0) + 1
    assert np.array_equal(read(result.files["labels"]), wanted)
    assert result.areas == {name: pytest.approx((wanted == i).mean()) for i, name in enumerate(LABELS, 1)}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "tile.geojson", "tile.gpkg", "tile.json", "tile_labels.tif", "tile_preview.png"
    ]  # fmt: skip


def test_polygons_cover_the_labels_in_both_files(tmp_path: Path) -> None:
    tile = write_tile(tmp_path / "tile.tif", waves(150, 200))
    result = segment(tile, tmp_path / "out")
    labels = read(result.files["labels"])
    features = json.loads(result.files["geojson"].read_text())["features"]
    assert len(features) == result.polygons
    for value, name in enumerate(LABELS, 1):
        of_it = [feature["properties"] for feature in features if feature["properties"]["label"] == name]
        assert sum(one["pixels"] for one in of_it) == (labels == value).sum()
        assert sum(one["area_m2"] for one in of_it) == pytest.approx((labels == value).sum() / 4)
    for feature in features:
        outside, *holes = (np.array(ring) for ring in feature["geometry"]["coordinates"])
        assert signed_area(outside) > 0 and all(signed_area(hole) < 0 for hole in holes), "RFC 7946: right hand"
    with sqlite3.connect(result.files["gpkg"]) as base:
        assert base.execute("PRAGMA application_id").fetchone() == (0x47504B47,)
        assert base.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert base.execute("SELECT srs_id, data_type FROM gpkg_contents").fetchall() == [(32633, "features")]
        assert {row[0] for row in base.execute("SELECT srs_id FROM gpkg_spatial_ref_sys")} == {-1, 0, 4326, 32633}
        rows = base.execute("SELECT geom, label, pixels FROM labels ORDER BY fid").fetchall()
    assert [(row[1], row[2]) for row in rows] == [
        (one["properties"]["label"], one["properties"]["pixels"]) for one in features
    ]
    # The same corners, by way of PROJ.
    for (blob, _, _), feature in zip(rows, features, strict=True):
        corners = rings_of(blob)[0]
        longitudes, latitudes = warp_points("EPSG:32633", "EPSG:4326", corners[:, 0], corners[:, 1])
        given = np.array(feature["geometry"]["coordinates"][0])
        assert np.allclose(given, np.stack([longitudes, latitudes], 1), atol=1e-7)


def test_an_interrupted_tile_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    tile = write_tile(tmp_path / "tile.tif", waves(200, 150))
    whole = segment(tile, tmp_path / "whole")
    windows = BrightestBand()
    segment(tile, tmp_path / "count", windows)
    first = BrightestBand(fails_at=8)
    with pytest.raises(KeyboardInterrupt):
        segment(tile, tmp_path / "out", first)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".tile.tif.parts"], "nothing half-written"
    second, told = BrightestBand(), []
    result = segment(tile, tmp_path / "out", second, progress=lambda done, total, old: told.append((done, total, old)))
    assert told[0] == (6, windows.asked, True) and second.asked == windows.asked - 6  # three windows a row
    for name in ALL:
        assert result.files[name].read_bytes() == whole.files[name].read_bytes() or name == "gpkg"
    assert sorted(path.name for path in (tmp_path / "out").glob(".*")) == []


@pytest.mark.parametrize("change", ["tile", "labels", "settings"])
def test_what_another_run_left_is_not_gone_on_with(tmp_path: Path, change: str) -> None:
    tile = write_tile(tmp_path / "tile.tif", waves(200, 150))
    with pytest.raises(KeyboardInterrupt):
        segment(tile, tmp_path / "out", BrightestBand(fails_at=8))
    words, settings = LABELS, SMALL
    if change == "tile":
        write_tile(tile, waves(200, 150)[::-1])
    elif change == "labels":
        words = ["roof", "road", "water"]
    else:
        settings = TileSettings(window=64, overlap=20)
    again, fresh = BrightestBand(), BrightestBand()
    result = segment_tile(lambda: again, tile, words, tmp_path / "out", settings, outputs=("labels",))
    wanted = segment_tile(lambda: fresh, tile, words, tmp_path / "fresh", settings, outputs=("labels",))
    assert again.asked == fresh.asked and np.array_equal(read(result.files["labels"]), read(wanted.files["labels"]))


def test_bands_by_number_by_colour_and_one_alone(tmp_path: Path) -> None:
    values = waves(40, 50, 5)
    five = write_tile(tmp_path / "five.tif", values)
    with open_raster(five, (5, 3, 1)) as raster:
        assert np.array_equal(
            raster.read(rasterio.windows.Window(0, 0, 50, 40))[0], values[[4, 2, 0]].transpose(1, 2, 0)
        )
    with open_raster(five) as raster:
        assert raster.bands == [1, 2, 3]
    with open_raster(write_tile(tmp_path / "one.tif", values[:1])) as raster:
        assert raster.bands == [1, 1, 1]
    bgr = write_tile(tmp_path / "bgr.tif", values[:3])
    with rasterio.open(bgr, "r+") as target:
        target.colorinterp = [rasterio.enums.ColorInterp[name] for name in ("blue", "green", "red")]
    with open_raster(bgr) as raster:
        assert raster.bands == [3, 2, 1]


def test_blocks_are_kept_while_a_tile_is_read(tmp_path: Path) -> None:
    """Without a cache, the overview decodes every block once for each of its rows."""
    from rasterio.env import get_gdal_config

    with open_raster(write_tile(tmp_path / "tile.tif", waves(40, 50))):
        assert int(get_gdal_config("GDAL_CACHEMAX")) == 64 * 1024 * 1024


def test_sixteen_bits_are_stretched_by_their_percentiles(tmp_path: Path) -> None:
    values = waves(60, 70).astype(np.uint16) * 40 + 300
    values[:, 0, 0] = 65535  # one glint does not darken the rest
    with open_raster(write_tile(tmp_path / "deep.tif", values)) as raster:
        picture, _ = raster.read(rasterio.windows.Window(0, 0, 70, 60))
    assert picture.dtype == np.uint8 and np.percentile(picture, 5) < 25 and np.percentile(picture, 95) > 230
    eight = write_tile(tmp_path / "eight.tif", waves(60, 70))
    with open_raster(eight) as plain, open_raster(eight, None, (10, 90)) as stretched:
        assert plain.stretch is None and stretched.stretch is not None


@pytest.mark.parametrize("kind", ["nodata", "alpha", "nan"])
def test_pixels_without_data_get_no_label(tmp_path: Path, kind: str) -> None:
    values: np.ndarray = waves(100, 120)
    hole = np.zeros((100, 120), bool)
    hole[20:60, :70] = True
    if kind == "nodata":
        values[:, hole] = 0
        tile = write_tile(tmp_path / "tile.tif", values, nodata=0)
    elif kind == "nan":
        values = values.astype(np.float32)
        values[:, hole] = np.nan
        tile = write_tile(tmp_path / "tile.tif", values, nodata=float("nan"))
    else:
        alpha = np.where(hole, 0, 255).astype(np.uint8)
        tile = write_tile(tmp_path / "tile.tif", np.concatenate([values, alpha[None]]), photometric="rgb", alpha="yes")
    result = segment(tile, tmp_path / "out")
    assert np.array_equal(read(result.files["labels"]) == 0, hole)
    assert result.data == pytest.approx(1 - hole.mean())
    features = json.loads(result.files["geojson"].read_text())["features"]
    assert sum(feature["properties"]["pixels"] for feature in features) == (~hole).sum()


def test_windows_without_data_are_not_labelled(tmp_path: Path) -> None:
    values = waves(200, 200)
    values[:, 100:] = 0
    labeller, everything = BrightestBand(), BrightestBand()
    segment(write_tile(tmp_path / "half.tif", values, nodata=0), tmp_path / "out", labeller)
    segment(write_tile(tmp_path / "full.tif", waves(200, 200)), tmp_path / "out", everything)
    assert 0 < labeller.asked < everything.asked


def test_rotated_tiles_and_degrees_work(tmp_path: Path) -> None:
    values = waves(80, 90)
    plain = segment(write_tile(tmp_path / "plain.tif", values), tmp_path / "out")
    turned = segment(write_tile(tmp_path / "turned.tif", values, transform=ROTATED), tmp_path / "out")
    assert np.array_equal(read(plain.files["labels"]), read(turned.files["labels"]))
    degrees = from_origin(15.0, 48.75, 6.8e-6, 4.5e-6)  # about half a metre
    geographic = segment(
        write_tile(tmp_path / "degrees.tif", values, crs="EPSG:4326", transform=degrees), tmp_path / "out"
    )
    sums = []
    for result in (plain, turned, geographic):
        features = json.loads(result.files["geojson"].read_text())["features"]
        assert all(signed_area(np.array(feature["geometry"]["coordinates"][0])) > 0 for feature in features)
        sums.append(sum(feature["properties"]["area_m2"] for feature in features))
    assert sums[1] == pytest.approx(sums[0]) and sums[2] == pytest.approx(sums[0], rel=0.02)


def test_a_tile_without_crs_gives_labels_and_a_package_in_its_own_coordinates(tmp_path: Path) -> None:
    tile = write_tile(tmp_path / "tile.tif", waves(60, 60), crs=None)
    with pytest.raises(InputError, match="has no CRS, and geojson is in WGS 84; give --crs, or choose --outputs"):
        segment(tile, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    result = segment(tile, tmp_path / "out", outputs=("labels", "gpkg"))
    with sqlite3.connect(result.files["gpkg"]) as base:
        assert base.execute("SELECT srs_id, area_m2 FROM gpkg_contents, labels LIMIT 1").fetchone() == (-1, None)
    named = segment(tile, tmp_path / "named", crs="EPSG:32633")
    with rasterio.open(named.files["labels"]) as source:
        assert source.crs == "EPSG:32633"


def test_what_cannot_be_labelled_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    empty = write_tile(tmp_path / "empty.tif", np.zeros((3, 100, 100), np.uint8), nodata=0)
    good = write_tile(tmp_path / "good.tif", waves(300, 300), compress="deflate")
    cut = tmp_path / "cut.tif"
    cut.write_bytes(good.read_bytes()[: good.stat().st_size * 2 // 3])
    (tmp_path / "text.tif").write_text("no tile")
    paletted = tmp_path / "palette.png"
    Image.new("P", (20, 20)).save(paletted)
    for tile, options, message in (
        (empty, {}, "holds no data: every pixel is nodata or transparent"),
        (cut, {}, "is damaged or cut off at"),
        (tmp_path / "text.tif", {}, "cannot be read"),
        (tmp_path / "nowhere.tif", {}, "does not exist; check the path"),
        (tmp_path, {}, "is a folder; give one file"),
        (paletted, {"outputs": ("labels",)}, "is a palette picture; convert it with gdal_translate -expand rgb"),
        (good, {"settings": TileSettings(bands=(1, 2))}, "--bands names 2 bands; give three"),
        (good, {"settings": TileSettings(bands=(1, 2, 4))}, "--bands names band 4, and .* has 1 to 3"),
        (good, {"settings": TileSettings(stretch=(98, 2))}, "--stretch 98,2 is no pair of percentiles"),
        (good, {"settings": TileSettings(stretch=(9,))}, "--stretch 9 is no pair of percentiles"),  # type: ignore[arg-type]
        (good, {"settings": TileSettings(window=64, overlap=40)}, "--window 64 and --overlap 40 do not fit"),
        (good, {"crs": "EPSG:4326"}, "is in EPSG:32633; leave out --crs"),
        (good, {"crs": "utm"}, "--crs utm is no CRS"),
        (good, {"outputs": ("shapefile",)}, "--outputs shapefile is unknown"),
        (good, {"minimal": 0}, "--min_pixels 0 must be at least 1"),
    ):
        with pytest.raises(InputError, match=message):
            segment(tile, tmp_path / "out", **options)  # type: ignore[arg-type]
        assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == [], message
    with pytest.raises(InputError, match="given twice"):
        segment_tile(BrightestBand, good, ["Road", "road"], tmp_path / "out")


def test_a_geometry_has_its_envelope(tmp_path: Path) -> None:
    ring = np.array([[1.0, 2.0], [5.0, 2.0], [5.0, 7.0], [1.0, 2.0]])
    blob = geometry([ring], 4326)
    assert struct.unpack_from("<i4d", blob, 4) == (4326, 1.0, 5.0, 2.0, 7.0)
    assert np.array_equal(rings_of(blob)[0], ring)


def test_the_command_labels_tiles_with_the_open_vocabulary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backbone = small_folder(tmp_path / "radio")
    tile = write_tile(tmp_path / "tile.tif", waves(100, 120))
    picture = tmp_path / "photo.png"
    Image.fromarray(waves(64, 64).transpose(1, 2, 0)).save(picture)
    given = ["--labels", "sky,grass", "--method", "radseg", "--backbone", str(backbone), "--out", str(tmp_path / "out")]
    assert main(["remote-sensing", "segment", str(tile), str(picture), *given, "--json"]) == 0
    said = capsys.readouterr()
    records = [json.loads(line) for line in said.out.splitlines()]
    assert records[0]["files"] == {
        "labels": "tile_labels.tif", "geojson": "tile.geojson", "preview": "tile_preview.png"
    }  # fmt: skip
    assert said.err.count("photo.png has no transform, so no GeoJSON is written") == 1
    assert set(records[1]["files"]) == {"labels", "preview"} and records[0]["size"] == [120, 100]
    assert sum(records[0]["areas"].values()) == pytest.approx(1)
    assert main(["remote-sensing", "segment", str(tile), *given, "--denoising", "1"]) == 2
    assert "no label is sure enough anywhere; lower --denoising" in capsys.readouterr().err
    assert main(["remote-sensing", "segment", str(tile), str(tmp_path / "no.tif"), *given]) == 1
    assert "1 of 2 tiles could not be labelled:" in capsys.readouterr().err
    for options, message in (
        (["--bands", "a,b"], "--bands 'a,b' is no list of numbers; give one such as 4,3,2"),
        (["--overlap", "400"], "--window 512 and --overlap 400 do not fit; give an overlap of up to 256"),
        (["--outputs", "shp"], "--outputs"),
    ):
        assert main(["remote-sensing", "segment", str(tile), *given, *options]) == 2
        assert message in capsys.readouterr().err


class Costly(BrightestBand):
    """Its cost maps are the bands, of which it remembers the picture."""

    def cost_maps(self, image: np.ndarray, labels: Sequence[str]) -> np.ndarray:
        self.seen = image
        return np.moveaxis(image, 2, 0)[None].repeat(4, axis=0).astype(np.float32) / 255


def test_cost_maps_of_a_tile_of_one_window(tmp_path: Path) -> None:
    values = waves(50, 64)
    values[:, :10] = 0
    tile = write_tile(tmp_path / "tile.tif", values, nodata=0)
    labeller = Costly()
    result = segment(tile, tmp_path / "out", labeller, outputs=("labels", "costs"))
    assert result.files["costs"].name == "tile_costs.png" and labeller.asked == 1
    sheet = Image.open(result.files["costs"])
    assert sheet.width > 5 * 320 and sheet.height > 3 * 250, "a row for each label, a column for each direction"
    filled = labeller.seen[:10].reshape(-1, 3)
    assert labeller.seen.shape == (50, 64, 3) and (filled == filled[0]).all() and filled.min() > 0, "as it was labelled"


def test_cost_maps_that_cannot_be_drawn_are_refused_before_anything_is_labelled(tmp_path: Path) -> None:
    small, large = write_tile(tmp_path / "small.tif", waves(50, 64)), write_tile(tmp_path / "large.tif", waves(50, 65))
    labeller = Costly()
    words = [f"class {number}" for number in range(41)]
    for given, tile, labels, message in (
        (labeller, large, LABELS, "large.tif has 65x50 pixels, and cost maps are of one window of 64; cut out a part"),
        (labeller, small, words, "--outputs costs draws at most 40 labels, not 41"),
        (BrightestBand(), small, LABELS, "--outputs costs needs a trained network"),
    ):
        with pytest.raises(InputError, match=message):
            segment_tile(lambda one=given: one, tile, labels, tmp_path / "out", SMALL, outputs=("costs",))
    assert not labeller.asked and not list((tmp_path / "out").glob("*"))


def test_cost_maps_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_network(telling_network(), tmp_path / "network")
    tile = write_tile(tmp_path / "tile.tif", waves(60, 64))
    given = ["remote-sensing", "segment", str(tile), "--labels", "road,water", "--out", str(tmp_path / "out")]
    assert main([*given, "--model", str(tmp_path / "network"), "--device", "cpu", "--outputs", "labels,costs"]) == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("*.*")) == [
        "tile.json", "tile_costs.png", "tile_labels.tif"
    ]  # fmt: skip
    capsys.readouterr()
    assert main([*given, "--method", "radseg", "--outputs", "costs"]) == 2
    assert (
        "--outputs costs draws the cost maps of a trained network; --method radseg has none" in capsys.readouterr().err
    )
