"""Evaluation sets by name: ``reasonseg_val``, ``refcoco_testA`` ... to a local file or the published copy."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from seg_zero.data.source import RowSource, open_rows
from seg_zero.data.synthetic.rows import HELD_OUT_SEED, write_split
from seg_zero.errors import InputError

FOLDER = Path("data")
HELD_OUT_FILE = Path("outputs/data/synthetic_held_out.parquet")
HELD_OUT_ROWS = 300


@dataclass(frozen=True)
class EvaluationSet:
    """rule: of :mod:`seg_zero.metrics`, as the field scores this set; build: the command that makes it from the
    originals; hub: a published copy, with the difference from the originals in ``note``."""

    rule: str
    build: str
    hub: str | None = None
    note: str = ""


_IGNORE_NOTE = "the published copy counts ReasonSeg's 'ignore' pixels as target"


def _refcoco(name: str, dataset: str, split: str, published: bool) -> EvaluationSet:
    build = f"seg-zero data refcoco --dataset {dataset} --root ROOT --split {split} --image_size original"
    build += f" --out {FOLDER}/{name}.parquet"
    return EvaluationSet("lisa", build, f"Ricky06662/{name}@test" if published else None)


def _reasonseg(split: str) -> EvaluationSet:
    build = f"seg-zero data reasonseg --root ROOT --split {split} --image_size original"
    build += f" --out {FOLDER}/reasonseg_{split}.parquet"
    return EvaluationSet("lisa", build, f"Ricky06662/ReasonSeg_{split}@test", _IGNORE_NOTE)


def _grefcoco(split: str) -> EvaluationSet:
    build = f"seg-zero data grefcoco --root ROOT --split {split} --image_size original"
    return EvaluationSet("gres", f"{build} --out {FOLDER}/grefcoco_{split}.parquet")


_PUBLISHED = ("refcoco_val", "refcoco_testA", "refcocoplus_val", "refcocoplus_testA", "refcocog_val", "refcocog_test")
SETS: dict[str, EvaluationSet] = {
    "reasonseg_val": _reasonseg("val"),
    "reasonseg_test": _reasonseg("test"),
    **{
        f"{short}_{split}": _refcoco(f"{short}_{split}", dataset, split, f"{short}_{split}" in _PUBLISHED)
        for short, dataset, splits in (
            ("refcoco", "refcoco", ("val", "testA", "testB")),
            ("refcocoplus", "refcoco+", ("val", "testA", "testB")),
            ("refcocog", "refcocog", ("val", "test")),
        )
        for split in splits
    },
    **{f"grefcoco_{split}": _grefcoco(split) for split in ("val", "testA", "testB")},
    "synthetic": EvaluationSet("lisa", f"seg-zero data synthetic --split held_out --count 300 --out {HELD_OUT_FILE}"),
}


def open_set(name: str) -> tuple[RowSource, str]:
    """The rows of an evaluation set or of any dataset, and the rule that the set is scored by (else ``lisa``).

    A named set is ``data/NAME.parquet`` if that exists, else the published copy; ``synthetic`` are held-out scenes,
    generated if needed. Raises InputError that says how to get a missing set.
    """
    known = SETS.get(name)
    if known is None:
        return open_rows(name), "lisa"
    if name == "synthetic":
        if not HELD_OUT_FILE.is_file():
            write_split(HELD_OUT_FILE, HELD_OUT_SEED, HELD_OUT_ROWS)
        return open_rows(HELD_OUT_FILE), known.rule
    local = FOLDER / f"{name}.parquet"
    if local.is_file():
        return open_rows(local), known.rule
    remedy = f"make it from the originals with `{known.build}` (see docs/datasets.md)"
    if known.hub is None:
        raise InputError(f"evaluation set {name} is not at {local}; {remedy}")
    try:
        rows = open_rows(known.hub)
    except InputError as error:
        raise InputError(f"evaluation set {name} is not at {local}, and {error}; or {remedy}") from error
    if known.note:
        print(f"note: {known.note}; {local} made from the originals does not", file=sys.stderr)
    return rows, known.rule
