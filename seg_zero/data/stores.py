"""Storage of records: parquet files, Arrow tables of the ``datasets`` library, JSON files.

Every store gives any record without reading the others and keeps at most one parquet row group in memory.
"""

from __future__ import annotations

import bisect
import codecs
import hashlib
import itertools
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from seg_zero.data.layouts import wanted_columns
from seg_zero.errors import InputError, one_line
from seg_zero.files import shown

# Reading one row reads its row group; files with larger groups go through datasets' Arrow cache.
MAX_GROUP_BYTES = 32 << 20
_BLANK = b" \t\r\n"


class Store(Protocol):
    """Records by number. ``fingerprint`` changes when the content does; ``folder`` is where image paths start."""

    columns: list[str]
    fingerprint: str
    folder: Path | None

    def __len__(self) -> int: ...

    def record(self, index: int) -> dict[str, Any]:
        """Record ``index`` as Python values; nested lists of masks as arrays."""

    def column(self, name: str) -> list[Any]:
        """One column of all records."""

    def nulls(self, name: str) -> np.ndarray:
        """Which records have no value in a column, boolean."""


def digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()


def _files_fingerprint(files: Sequence[Path]) -> str:
    return digest(*((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files))


def _value(scalar: Any) -> Any:
    """An Arrow value as Python; nested lists, which would be slow, as an array if they are a full grid."""
    if isinstance(scalar, pa.ExtensionScalar):
        scalar = scalar.value
    rows = scalar.values if isinstance(scalar, pa.ListScalar) else None
    if rows is None or not pa.types.is_nested(rows.type):
        return scalar.as_py()
    widths = rows.value_lengths().unique()
    if len(widths) != 1 or not widths[0].as_py():
        return np.empty(0)
    return rows.flatten().to_numpy(zero_copy_only=False).reshape(len(rows), -1)


def _record(table: pa.Table, index: int) -> dict[str, Any]:
    return {name: _value(table.column(name)[index]) for name in table.column_names}


class ParquetStore:
    """Parquet files of one layout in order. Reads are locked, since parquet readers are not thread-safe."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.folder: Path | None = files[0].parent
        self.fingerprint = _files_fingerprint(files)
        self._lock = threading.Lock()
        self._readers = [_open_parquet(file) for file in files]
        self.columns = wanted_columns(self._readers[0].schema_arrow.names)
        for file, reader in zip(files, self._readers, strict=True):
            if not set(self.columns) <= set(reader.schema_arrow.names):
                raise InputError(f"lacks columns of {files[0].name} in {file.name}; give both files the same columns")
        self._groups: list[tuple[int, int]] = []
        self.largest_group = 0
        sizes = []
        for number, reader in enumerate(self._readers):
            for group in range(reader.metadata.num_row_groups):
                described = reader.metadata.row_group(group)
                self._groups.append((number, group))
                sizes.append(described.num_rows)
                self.largest_group = max(self.largest_group, described.total_byte_size)
        self._ends = list(itertools.accumulate(sizes))
        self._last: tuple[int, pa.Table] | None = None

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def record(self, index: int) -> dict[str, Any]:
        where = bisect.bisect_right(self._ends, index)
        with self._lock:
            if self._last is None or self._last[0] != where:
                self._last = None  # freed before the next one is read
                number, group = self._groups[where]
                table = self._readers[number].read_row_group(group, columns=self.columns, use_threads=False)
                self._last = (where, table)
            table = self._last[1]
        return _record(table, index - (self._ends[where - 1] if where else 0))

    def column(self, name: str) -> list[Any]:
        with self._lock:
            return [value for reader in self._readers for value in reader.read(columns=[name]).column(name).to_pylist()]

    def nulls(self, name: str) -> np.ndarray:
        found = [np.empty(0, dtype=bool)]
        with self._lock:
            for number, group in self._groups:  # one at a time, since a column of masks may be large
                table = self._readers[number].read_row_group(group, columns=[name], use_threads=False)
                found.append(table.column(name).is_null().to_numpy())
        return np.concatenate(found)


def _is_text(file: Path) -> bool:
    """Whether pyarrow, which takes names in UTF-8 alone, can open a file by its name."""
    return shown(file) == str(file)


def _open_parquet(file: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file if _is_text(file) else file.open("rb"), pre_buffer=False)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"is not parquet ({one_line(error)}); convert or download it again") from error


class ArrowStore:
    """One split of the ``datasets`` library, memory-mapped."""

    def __init__(self, dataset: Any, folder: Path | None) -> None:
        self.folder = folder
        self.columns = wanted_columns(dataset.column_names)
        self._rows = dataset.select_columns(self.columns).with_format("arrow")
        files = [Path(entry["filename"]) for entry in dataset.cache_files]
        self.fingerprint = digest(dataset._fingerprint, len(dataset), _files_fingerprint(files))

    def __len__(self) -> int:
        return len(self._rows)

    def record(self, index: int) -> dict[str, Any]:
        return _record(self._rows[index], 0)

    def column(self, name: str) -> list[Any]:
        return self._rows.select_columns([name])[:].column(name).to_pylist()

    def nulls(self, name: str) -> np.ndarray:
        return np.asarray(self._rows.select_columns([name])[:].column(name).is_null().to_numpy())


class JsonStore:
    """A JSON list of objects, or one object per line. The file is scanned once for the positions of its records."""

    def __init__(self, file: Path) -> None:
        self.folder: Path | None = file.parent
        self.fingerprint = _files_fingerprint([file])
        self._file = file
        self._spans = _json_spans(file)
        self.columns = wanted_columns(self.record(0)) if self._spans else []

    def __len__(self) -> int:
        return len(self._spans)

    def _load(self, span: tuple[int, int], stream: Any) -> dict[str, Any]:
        stream.seek(span[0])
        try:
            record = json.loads(stream.read(span[1] - span[0]))
        except ValueError as error:
            raise InputError(f"record at byte {span[0]} is not JSON ({error}); correct it") from error
        if not isinstance(record, dict):
            raise InputError(f"record at byte {span[0]} is a JSON {type(record).__name__}, not an object; correct it")
        return record

    def record(self, index: int) -> dict[str, Any]:
        with self._file.open("rb") as stream:
            return self._load(self._spans[index], stream)

    def column(self, name: str) -> list[Any]:
        with self._file.open("rb") as stream:
            return [self._load(span, stream).get(name) for span in self._spans]

    def nulls(self, name: str) -> np.ndarray:
        return np.array([value is None for value in self.column(name)], dtype=bool)


def _json_spans(file: Path) -> list[tuple[int, int]]:
    """First and one past the last byte of every record."""
    with file.open("rb") as stream:
        if stream.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:  # some editors write this mark
            stream.seek(0)
        first = stream.read(1)
        while first and first in _BLANK:
            first = stream.read(1)
        stream.seek(0)
        if first != b"[":
            starts = [0, *itertools.accumulate(map(len, stream))]
            stream.seek(0)
            filled = [bool(line.strip()) for line in stream]
            return [span for span, full in zip(itertools.pairwise(starts), filled, strict=True) if full]
        text = stream.read().decode("latin-1")  # one character per byte, so that positions are byte positions
    decoder = json.JSONDecoder()
    spans: list[tuple[int, int]] = []
    position = text.index("[") + 1
    try:
        while True:
            while text[position] in " \t\r\n,":
                position += 1
            if text[position] == "]":
                return spans
            _, end = decoder.raw_decode(text, position)
            spans.append((position, end))
            position = end
    except (ValueError, IndexError) as error:
        raise InputError(f"is not JSON (after record {len(spans)}: {error}); correct it") from error
