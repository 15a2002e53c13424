"""Opens a dataset by name; rows are accessed by number and read on demand.

A name is a parquet file, a folder or glob of parquet files, a folder of ``datasets.save_to_disk``, a JSON or
JSONL file, or a hub id; ``@split`` may follow a folder or hub id. See docs/data.md.
"""

from __future__ import annotations

import glob
import re
import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, overload

import numpy as np

from seg_zero.data.layouts import row_id, row_of
from seg_zero.data.rows import Row
from seg_zero.data.stores import MAX_GROUP_BYTES, ArrowStore, JsonStore, ParquetStore, Store, digest
from seg_zero.errors import InputError, one_line
from seg_zero.hub import remedy, unreachable

_HUB_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_.-]+")
_SHARD = re.compile(r"(?P<split>.+?)-\d{5}-of-\d{5}(-[0-9a-f]+)?\.parquet")
_FILES = (".parquet", ".json", ".jsonl")


class RowSource(Sequence[Row]):
    """Rows of one dataset. A slice is a list of rows; :meth:`select` is a lazy subset.

    name: opens the same dataset from any folder and process. fingerprint: changes when the content does.
    """

    def __init__(self, name: str, store: Store, chosen: np.ndarray | None = None) -> None:
        self.name, self._store, self._chosen = name, store, chosen

    @property
    def fingerprint(self) -> str:
        if self._chosen is None:
            return self._store.fingerprint
        return digest(self._store.fingerprint, self._chosen.tolist())

    def __len__(self) -> int:
        return len(self._store) if self._chosen is None else len(self._chosen)

    def number(self, index: int) -> int:
        """The number that row ``index`` has in the whole dataset."""
        size = len(self)
        if not -size <= index < size:
            raise IndexError(f"row {index} of {self.name}: it has {size} rows")
        index %= size
        return index if self._chosen is None else int(self._chosen[index])

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        """One row, or a list of them. Raises InputError that names dataset and row number for a bad row."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number = self.number(index)
        try:
            return row_of(self._store.record(number), self._store.folder)
        except InputError as error:
            raise InputError(f"row {number} of {self.name}: {error}") from error

    def __iter__(self) -> Iterator[Row]:
        return (self[i] for i in range(len(self)))

    def select(self, indexes: Sequence[int] | np.ndarray) -> RowSource:
        """The rows at these places, in this order, without reading them."""
        places = np.asarray(indexes, dtype=np.int64)
        return RowSource(self.name, self._store, places if self._chosen is None else self._chosen[places])

    def column(self, name: str) -> list[Any]:
        """One field of :class:`Row` of all rows; only the columns it needs are read."""
        values = self._whole_column(name)
        return values if self._chosen is None else [values[i] for i in self._chosen]

    def without_mask(self) -> np.ndarray:
        """The places of rows that have no mask; no other column is read."""
        if "mask" not in self._store.columns:
            return np.arange(len(self))
        nulls = self._store.nulls("mask")
        return np.flatnonzero(nulls if self._chosen is None else nulls[self._chosen])

    def _whole_column(self, name: str) -> list[Any]:
        store = self._store
        if name == "id" and "id" not in store.columns:
            parts = {part: store.column(part) for part in ("image_id", "ann_id") if part in store.columns}
            return [row_id(dict(zip(parts, values, strict=True))) for values in zip(*parts.values(), strict=True)]
        if name == "problem" and "problem" not in store.columns:
            return store.column("text")
        if name in ("id", "problem", "kind", "img_height", "img_width") and name in store.columns:
            return store.column(name)
        whole = RowSource(self.name, store)
        return [getattr(row, name) for row in whole]

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.name, self._chosen)


def _reopen(name: str, chosen: np.ndarray | None) -> RowSource:
    source = open_rows(name)
    return source if chosen is None else source.select(chosen)


def split_name(name: str | Path) -> tuple[str, str | None]:
    """A dataset name without and with its ``@split``; a path that exists is never split."""
    text = str(name)
    base, at, split = text.rpartition("@")
    if not at or not base or Path(text).expanduser().exists():
        return text, None
    return base, split


def short_name(name: str | Path) -> str:
    """The last part of a dataset name, for curves and reports: ``ReasonSeg_val`` of ``user/ReasonSeg_val@test``."""
    base, split = split_name(name)
    last = Path(base.rstrip("/")).name
    stem = last[: last.rindex(".")] if last.endswith(_FILES) else last
    return f"{stem}_{split}" if split not in (None, "train", "test", "validation") else stem


def choose_split(splits: Sequence[str], wanted: str | None, default: str | None) -> str:
    """The requested split, the only one, or ``default``. Raises InputError that lists them."""
    listed = ", ".join(splits)
    if wanted is not None:
        if wanted not in splits:
            raise InputError(f"has no split {wanted!r}; it has {listed}")
        return wanted
    if len(splits) == 1:
        return splits[0]
    if default in splits:
        return str(default)
    raise InputError(f"has the splits {listed}; choose one with NAME@{splits[0] if splits else 'SPLIT'}")


def open_rows(name: str | Path, default_split: str | None = None) -> RowSource:
    """Open a dataset without reading its rows.

    ``default_split`` is taken where several splits exist and the name says none. Raises InputError that names
    the dataset, what is wrong and the remedy: nothing there, no network, an unreadable file, missing columns,
    an unknown or ambiguous split.
    """
    base, split = split_name(name)
    try:
        return _open(base, split, default_split)
    except InputError as error:
        raise InputError(f"dataset {name} {error}") from error  # the messages begin with a verb


def _open(base: str, split: str | None, default: str | None) -> RowSource:
    path = Path(base).expanduser()
    if path.is_dir():
        return _open_folder(path.resolve(), split, default)
    is_glob = not path.exists() and glob.has_magic(base)
    if not path.is_file() and not is_glob:
        if _HUB_ID.fullmatch(base) and not base.endswith(_FILES):
            return _open_hub(base, split, default)
        raise InputError("does not exist; check the name (`seg-zero data synthetic --out FILE` makes one to try)")
    if split is not None:
        raise InputError(f"is a file and has no splits; leave '@{split}' away")
    path = path.resolve()
    if is_glob:
        found = sorted(Path(file) for file in glob.glob(str(path), recursive=True))
        if not found:
            raise InputError("matches no file; check the pattern")
        return _open_parquet(str(path), found)
    if path.suffix in (".json", ".jsonl"):
        return RowSource(str(path), JsonStore(path))
    return _open_parquet(str(path), [path])


def _open_parquet(name: str, files: Sequence[Path]) -> RowSource:
    store = ParquetStore(files)
    if store.largest_group <= MAX_GROUP_BYTES:
        return RowSource(name, store)
    import datasets

    print(
        f"{name}: row groups of {store.largest_group / 2**20:,.0f} MiB are slow to pick rows from; using a "
        f"memory-mapped copy under {datasets.config.HF_DATASETS_CACHE}",
        file=sys.stderr,
        flush=True,
    )
    split = datasets.load_dataset("parquet", data_files=[str(file) for file in files], split="train")
    return RowSource(name, ArrowStore(split, files[0].parent))


def _open_folder(folder: Path, split: str | None, default: str | None) -> RowSource:
    saved_dict, saved = folder / "dataset_dict.json", folder / "dataset_info.json"
    if saved_dict.is_file() or (saved.is_file() and (folder / "state.json").is_file()):
        return _open_saved(folder, split, default)
    shards: dict[str, list[Path]] = {}
    for file in sorted(folder.rglob("*.parquet")):
        if file.name.startswith("."):
            continue  # half-written
        found = _SHARD.fullmatch(file.name)
        shards.setdefault("" if found is None else found["split"], []).append(file)
    if not shards:
        raise InputError(
            "is a folder with neither parquet files nor a dataset of save_to_disk; name the folder that has them"
        )
    if list(shards) == [""]:
        if split is not None:
            raise InputError(f"has files whose names tell no splits; leave '@{split}' away")
        return _open_parquet(str(folder), shards[""])
    if "" in shards:
        raise InputError(
            f"holds {shards[''][0].name}, which belongs to no split as the others do; name a file or a glob"
        )
    chosen = choose_split(list(shards), split, default)
    return _open_parquet(f"{folder}@{chosen}", shards[chosen])


def _open_saved(folder: Path, split: str | None, default: str | None) -> RowSource:
    import datasets

    try:
        loaded: Any = datasets.load_from_disk(str(folder))
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"cannot be loaded ({_line(error)}); save it again with save_to_disk") from error
    if isinstance(loaded, datasets.DatasetDict):
        chosen = choose_split(list(loaded), split, default)
        return RowSource(f"{folder}@{chosen}", ArrowStore(loaded[chosen], folder))
    if split is not None and split != str(loaded.split or ""):
        raise InputError(f"is a single dataset without the split {split!r}; leave '@{split}' away")
    return RowSource(str(folder), ArrowStore(loaded, folder))


@lru_cache(maxsize=8)  # every look at the hub takes seconds
def _load_hub(name: str) -> Any:
    """All splits of a hub dataset, downloaded if they are not in the local cache."""
    import datasets
    from huggingface_hub.utils import logging

    reason = unreachable()
    if reason is not None:
        datasets.config.HF_HUB_OFFLINE = True  # otherwise it retries for minutes before it looks at its cache
    print(f"opening {name} from the Hugging Face hub or its local cache", file=sys.stderr, flush=True)
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # one line at the end says what the retries would say
    try:
        return datasets.load_dataset(name)
    except Exception as error:  # the hub's clients raise many unrelated types
        if reason is not None:
            raise InputError(
                f"is no local file or folder, and {reason}; {remedy(f'--repo-type dataset {name}')}"
            ) from error
        raise InputError(
            f"is no local file or folder, and the hub gave no dataset of this name ({_line(error)}); check the name "
            "and the network, or download it and name its folder"
        ) from error
    finally:
        logging.set_verbosity(verbosity)


def _open_hub(name: str, split: str | None, default: str | None) -> RowSource:
    loaded = _load_hub(name)
    chosen = choose_split(list(loaded), split, default)
    return RowSource(f"{name}@{chosen}", ArrowStore(loaded[chosen], None))


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {one_line(error)}"
