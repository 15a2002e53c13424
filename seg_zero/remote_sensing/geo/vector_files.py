"""Polygons as GeoJSON (RFC 7946: WGS 84) and GeoPackage (OGC 12-128r18, in the CRS of the tile), one at a time."""

from __future__ import annotations

import json
import sqlite3
import struct
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from rasterio.crs import CRS

from seg_zero.files import whole_file
from seg_zero.remote_sensing.geo.polygons import Region, Ring

LAYER = "labels"
_UNDEFINED = -1  # srs_id of coordinates in no system
_OWN = 100_000  # srs_id of a system without a number of the EPSG
_TABLES = """
CREATE TABLE gpkg_spatial_ref_sys (srs_name TEXT NOT NULL, srs_id INTEGER NOT NULL PRIMARY KEY,
  organization TEXT NOT NULL, organization_coordsys_id INTEGER NOT NULL, definition TEXT NOT NULL, description TEXT);
CREATE TABLE gpkg_contents (table_name TEXT NOT NULL PRIMARY KEY, data_type TEXT NOT NULL, identifier TEXT UNIQUE,
  description TEXT DEFAULT '', last_change DATETIME NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')),
  min_x DOUBLE, min_y DOUBLE, max_x DOUBLE, max_y DOUBLE, srs_id INTEGER,
  FOREIGN KEY (srs_id) REFERENCES gpkg_spatial_ref_sys(srs_id));
CREATE TABLE gpkg_geometry_columns (table_name TEXT NOT NULL, column_name TEXT NOT NULL,
  geometry_type_name TEXT NOT NULL, srs_id INTEGER NOT NULL, z TINYINT NOT NULL, m TINYINT NOT NULL,
  PRIMARY KEY (table_name, column_name), FOREIGN KEY (table_name) REFERENCES gpkg_contents(table_name),
  FOREIGN KEY (srs_id) REFERENCES gpkg_spatial_ref_sys(srs_id));
CREATE TABLE labels (fid INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, geom POLYGON, label TEXT NOT NULL,
  value INTEGER NOT NULL, pixels INTEGER NOT NULL, area_m2 REAL);
"""


def write_geojson(path: Path, regions: Iterable[Region], labels: Sequence[str], decimals: int = 8) -> int:
    """Write regions with longitudes and latitudes; returns how many. Members: label, value, pixels, area_m2."""
    count = 0
    with whole_file(path) as partial, partial.open("w", encoding="utf-8") as stream:
        stream.write('{"type": "FeatureCollection", "features": [')
        for region in regions:
            rings = [np.round(ring, decimals).tolist() for ring in region.rings]
            area = None if region.square_metres is None else round(region.square_metres, 3)
            feature = {
                "type": "Feature",
                "properties": {
                    "label": labels[region.value - 1],
                    "value": region.value,
                    "pixels": region.pixels,
                    "area_m2": area,
                },
                "geometry": {"type": "Polygon", "coordinates": rings},
            }
            stream.write(("," if count else "") + "\n" + json.dumps(feature, ensure_ascii=False))
            count += 1
        stream.write("\n]}\n")
    return count


def write_geopackage(path: Path, regions: Iterable[Region], labels: Sequence[str], crs: CRS | None) -> int:
    """Write regions in the coordinates of ``crs``, None for those of no system; returns how many."""
    system, count = _system(crs), 0
    bounds = np.array([np.inf, np.inf, -np.inf, -np.inf])
    with whole_file(path) as partial, closing(sqlite3.connect(partial)) as base:
        base.execute("PRAGMA application_id = 0x47504B47")  # GPKG
        base.execute("PRAGMA user_version = 10300")  # 1.3
        base.execute("PRAGMA journal_mode = OFF")  # the file becomes visible when it is complete
        base.executescript(_TABLES)
        for row in {row[1]: row for row in (*_REQUIRED, system)}.values():
            base.execute("INSERT INTO gpkg_spatial_ref_sys VALUES (?, ?, ?, ?, ?, NULL)", row)
        for region in regions:
            outside = region.rings[0]
            box = np.concatenate([outside.min(axis=0), outside.max(axis=0)])
            bounds = np.concatenate([np.minimum(bounds[:2], box[:2]), np.maximum(bounds[2:], box[2:])])
            base.execute(
                "INSERT INTO labels (geom, label, value, pixels, area_m2) VALUES (?, ?, ?, ?, ?)",
                (
                    geometry(region.rings, system[1]),
                    labels[region.value - 1],
                    region.value,
                    region.pixels,
                    region.square_metres,
                ),
            )
            count += 1
        box = [None] * 4 if not count else [float(side) for side in bounds]
        base.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier, min_x, min_y, max_x, max_y, srs_id) "
            "VALUES (?, 'features', ?, ?, ?, ?, ?, ?)",
            (LAYER, LAYER, *box, system[1]),
        )
        base.execute("INSERT INTO gpkg_geometry_columns VALUES (?, 'geom', 'POLYGON', ?, 0, 0)", (LAYER, system[1]))
        base.commit()
    return count


def geometry(rings: Sequence[Ring], srs_id: int) -> bytes:
    """A polygon as GeoPackage keeps it: a header with its envelope, then well-known binary, little-endian."""
    low, high = rings[0].min(axis=0), rings[0].max(axis=0)
    header = b"GP" + struct.pack("<BBi4d", 0, 0b011, srs_id, low[0], high[0], low[1], high[1])
    body = struct.pack("<BII", 1, 3, len(rings))
    return header + body + b"".join(struct.pack("<I", len(ring)) + ring.astype("<f8").tobytes() for ring in rings)


Row = tuple[str, int, str, int, str]
_REQUIRED: tuple[Row, ...] = (
    ("Undefined Cartesian SRS", _UNDEFINED, "NONE", -1, "undefined"),
    ("Undefined geographic SRS", 0, "NONE", 0, "undefined"),
    (
        "WGS 84 geodetic",
        4326,
        "EPSG",
        4326,
        'GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563]],PRIMEM["Greenwich",0],'
        'UNIT["degree",0.0174532925199433],AUTHORITY["EPSG","4326"]]',
    ),
)


def _system(crs: CRS | None) -> Row:
    if crs is None:
        return _REQUIRED[0]
    number = crs.to_epsg()
    name = str(crs.to_dict().get("init", f"EPSG:{number}")) if number else "tile"
    if number:
        return (name, number, "EPSG", number, crs.to_wkt())
    return ("CRS of the tile", _OWN, "NONE", _OWN, crs.to_wkt())
