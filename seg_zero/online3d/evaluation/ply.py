"""Vertices of a PLY file, text or binary. Faces and whatever else follows the vertices are not read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seg_zero.errors import InputError, one_line

_TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"},
    **{"float": "f4", "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2"},
    **{"int32": "i4", "uint32": "u4", "float32": "f4", "float64": "f8"},
}
_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_MOST_HEADER = 1 << 16


@dataclass(frozen=True)
class _Header:
    """order: of bytes, empty for text; count: of vertices; fields: a numpy type; start: of the data in the file."""

    order: str
    count: int
    fields: np.dtype
    start: int


def read_vertices(path: Path, *needed: str) -> np.ndarray:
    """The vertices as a structured array N; ``x``, ``y``, ``z`` and the properties ``needed`` are among its fields.

    Raises InputError for a file that is missing, damaged, cut off, or lacks one of these properties.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({one_line(error)}); it is the mesh of the truth") from error
    header = _header(path, data)
    missing = [name for name in ("x", "y", "z", *needed) if name not in (header.fields.names or ())]
    if missing:
        raise InputError(f"{path}: its vertices have no {' and no '.join(missing)}; take the annotated mesh")
    if header.order:
        return _binary(path, data, header)
    return _text(path, data, header)


def positions(vertices: np.ndarray) -> np.ndarray:
    """float32 N x 3, metres."""
    return np.stack([vertices[axis].astype(np.float32) for axis in "xyz"], axis=1)


def _header(path: Path, data: bytes) -> _Header:
    end = data.find(b"end_header", 0, _MOST_HEADER)
    if not data.startswith(b"ply") or end < 0:
        raise InputError(f"{path} is no PLY file: it does not begin with a PLY header")
    start = data.find(b"\n", end) + 1
    lines = [line.split() for line in data[:end].decode("ascii", "replace").splitlines() if line.strip()]
    order = next((words[1] for words in lines if words[0] == "format" and len(words) > 1), "")
    elements = [words for words in lines if words[0] == "element"]
    if order not in _ORDERS or not start:
        raise InputError(f"{path} has the format {order!r}; PLY knows {', '.join(_ORDERS)}")
    if not elements or elements[0][1:2] != ["vertex"] or not elements[0][-1].isdigit():
        raise InputError(f"{path}: its first element is not its vertices; save it again with another tool")
    begin = lines.index(elements[0]) + 1
    stop = lines.index(elements[1]) if len(elements) > 1 else len(lines)
    fields = []
    for words in lines[begin:stop]:
        if words[0] != "property":
            continue
        if len(words) != 3 or words[1] not in _TYPES:
            raise InputError(f"{path}: vertices have {' '.join(words)!r}, which is no single number")
        fields.append((words[2], _ORDERS[order] + _TYPES[words[1]]))
    if len({name for name, _ in fields}) != len(fields):
        raise InputError(f"{path}: two properties of its vertices have one name")
    return _Header(_ORDERS[order], int(elements[0][-1]), np.dtype(fields), start)


def _binary(path: Path, data: bytes, header: _Header) -> np.ndarray:
    there = (len(data) - header.start) // max(header.fields.itemsize, 1)
    if there < header.count:
        raise InputError(f"{path} is cut off: {there} of {header.count} vertices are there; download it again")
    return np.frombuffer(data, dtype=header.fields, count=header.count, offset=header.start)


def _text(path: Path, data: bytes, header: _Header) -> np.ndarray:
    rows = [tuple(line.split()) for line in data[header.start :].splitlines() if line.strip()][: header.count]
    if len(rows) < header.count:
        raise InputError(f"{path} is cut off: {len(rows)} of {header.count} vertices are there; download it again")
    vertices = np.empty(header.count, dtype=header.fields)
    try:
        table = np.array(rows, dtype=np.float64).reshape(header.count, -1)
        for column, name in enumerate(header.fields.names or ()):
            vertices[name] = table[:, column]
    except (ValueError, IndexError) as error:
        raise InputError(f"{path}: its vertices cannot be read as numbers ({one_line(error)})") from error
    return vertices
