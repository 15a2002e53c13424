"""Which rows a run uses: those of the datasets in ``data.train_files`` and ``data.val_files``, without skipped rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from omegaconf import ListConfig

from seg_zero.data.source import RowSource, open_rows
from seg_zero.errors import InputError
from seg_zero.files import read_json, write_text


def names_of(value: str | Sequence[str] | ListConfig) -> list[str]:
    """``data.train_files`` or ``data.val_files``, which hold one name or a list, as a list."""
    return [str(v) for v in value] if isinstance(value, list | tuple | ListConfig) else [str(value)]


def open_all(value: str | Sequence[str] | ListConfig, training: bool) -> list[RowSource]:
    """The datasets of a setting; of several splits the training rows are those of ``train``."""
    return [open_rows(name, "train" if training else None) for name in names_of(value)]


def write_bad_rows(path: Path, bad: Mapping[str, Sequence[int]]) -> None:
    """Save the rows to skip: dataset name to row numbers."""
    write_text(path, json.dumps(bad, ensure_ascii=False) + "\n")


def read_bad_rows(path: str) -> dict[str, list[int]]:
    try:
        return read_json(Path(path))
    except (OSError, ValueError) as error:
        raise InputError(f"data.bad_rows={path} cannot be read ({error}); --skip-bad makes it") from error


def chosen_rows(
    value: str | Sequence[str] | ListConfig, training: bool, max_samples: int, bad_rows: str | None
) -> list[RowSource]:
    """The datasets of a setting without the rows in the file ``bad_rows``, and at most ``max_samples`` rows in all.

    A ``max_samples`` of 0 or less is no limit."""
    bad = read_bad_rows(bad_rows) if bad_rows else {}
    chosen, left = [], max_samples if max_samples > 0 else None
    for source in open_all(value, training):
        numbers = bad.get(source.name, [])
        if numbers:
            source = source.select(np.setdiff1d(np.arange(len(source)), numbers))
        if left is not None:
            source = source.select(np.arange(min(left, len(source)))) if left < len(source) else source
            left -= len(source)
        chosen.append(source)
    if not any(map(len, chosen)):
        raise InputError(f"no row is left of {', '.join(names_of(value))}; give a dataset with at least one good row")
    return chosen
