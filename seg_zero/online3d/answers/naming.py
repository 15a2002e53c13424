"""Names for all objects of a scan, from any list of labels, by the vectors of the objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seg_zero.errors import InputError, one_line
from seg_zero.files import read_json, write_json
from seg_zero.online3d.answers.texts import name_objects
from seg_zero.online3d.results.result import Result
from seg_zero.open_vocabulary.labels import parse_labels, texts_and_classes

if TYPE_CHECKING:
    from seg_zero.encoders.text import TextEncoder

LABELS = "labels.json"


@dataclass(frozen=True)
class Named:
    """Labels; for each object the place of its own among them, -1 without a vector, and how probable that is."""

    labels: tuple[str, ...]
    classes: np.ndarray
    probabilities: np.ndarray

    @property
    def names(self) -> list[str]:
        """Of the objects, empty where there is none."""
        return ["" if kind < 0 else self.labels[kind] for kind in self.classes.tolist()]


def name_all(result: Result, labels: Sequence[str], encoder: TextEncoder) -> Named:
    """Give each object the label that its vector fits best.

    labels: a text each, or synonyms with commas. encoder: of the scan's encoder. Raises InputError for labels that
    cannot be used.
    """
    parsed = parse_labels(labels)
    texts, classes = texts_and_classes(parsed)
    chosen, probabilities = name_objects(result.features, encoder.encode(texts).numpy(), classes)
    return Named(tuple(label.name for label in parsed), chosen, probabilities)


def write_names(folder: Path, named: Named, result: Result, encoder: str) -> None:
    """Write ``labels.json``, which the page and the evaluation read."""
    objects: list[dict[str, Any]] = [
        {"number": int(number), "label": name, "probability": round(float(probability), 4)}
        for number, name, probability in zip(result.numbers, named.names, named.probabilities, strict=True)
    ]
    write_json(folder / LABELS, {"encoder": encoder, "labels": list(named.labels), "objects": objects})


def read_names(folder: Path, result: Result) -> list[str] | None:
    """The names of a scan's objects in their order, None if none were given. Raises InputError for a damaged file."""
    path = folder / LABELS
    if not path.exists():
        return None
    try:
        found = {int(one["number"]): str(one["label"]) for one in read_json(path)["objects"]}
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} cannot be read ({one_line(error)}); delete it or run `scan label` again") from error
    return [found.get(int(number), "") for number in result.numbers]
