"""The folder of an evaluation: its settings and every answered row, safe against interruption.

manifest.json           the settings that decide the results; another evaluation is refused here
parts/00012.jsonl       predictions of PART_ROWS rows from 12 * PART_ROWS, written when complete
predictions.jsonl       all rows in order; equal runs write equal bytes
timings.jsonl           seconds of each row, of the run that answered it
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seg_zero.errors import InputError
from seg_zero.evaluation.predictions import PART_ROWS, Prediction
from seg_zero.files import locked, make_folder, read_json, read_lines, whole_file, write_json, write_text

MANIFEST = "manifest.json"
_LONGEST_VALUE = 100  # characters in a message; a prompt's text may have thousands
_OURS = {MANIFEST, "parts", "lock", "predictions.jsonl", "timings.jsonl", "metrics.json", "report.md", "report.html"}


class Store:
    """Predictions of ``rows`` rows in a folder, in parts of PART_ROWS rows."""

    def __init__(self, folder: Path, rows: int) -> None:
        self.folder, self.rows = folder, rows
        self.damaged: list[Path] = []  # parts that were not as written, and are answered again

    @property
    def parts(self) -> int:
        return -(-self.rows // PART_ROWS)

    def numbers(self, part: int) -> range:
        """The rows of a part."""
        return range(part * PART_ROWS, min((part + 1) * PART_ROWS, self.rows))

    def _path(self, part: int) -> Path:
        return self.folder / "parts" / f"{part:05d}.jsonl"

    def open_for(self, settings: Mapping[str, Any]) -> None:
        """Begin an evaluation with these settings, or resume one.

        Raises InputError if the folder holds an evaluation with other settings, or unrelated files.
        """
        open_folder(self.folder, settings)
        for half_written in self.folder.glob("parts/.*.tmp"):  # of a run that was killed
            half_written.unlink()

    def pending(self) -> list[int]:
        """The parts that are missing or damaged."""
        return [part for part in range(self.parts) if self.read(part) is None]

    def read(self, part: int) -> list[Prediction] | None:
        """The predictions of a part in row order; None if it is missing or incomplete."""
        path = self._path(part)
        try:
            lines = read_lines(path)
            found = [Prediction.of_record(line["prediction"], line["seconds"]) for line in map(json.loads, lines)]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            self.damaged.append(path)
            return None
        if [prediction.row for prediction in found] != list(self.numbers(part)):
            self.damaged.append(path)
            return None
        return found

    def write(self, part: int, predictions: Sequence[Prediction]) -> None:
        """Write a finished part atomically. Raises InputError if the disk is full."""
        ordered = sorted(predictions, key=lambda prediction: prediction.row)
        lines = [json.dumps({"prediction": p.record(), "seconds": p.seconds}, ensure_ascii=False) for p in ordered]
        write_text(self._path(part), "\n".join(lines) + "\n")

    def predictions(self) -> Iterator[Prediction]:
        """All rows in order, a part at a time. Raises InputError if a part is missing."""
        for part in range(self.parts):
            found = self.read(part)
            if found is None:
                raise InputError(f"{self._path(part)} is missing or damaged; run the same command again")
            yield from found

    def finish(self) -> list[Prediction]:
        """Write predictions.jsonl and timings.jsonl of all rows, and return them."""
        found = []
        with (
            whole_file(self.folder / "predictions.jsonl") as predictions,
            whole_file(self.folder / "timings.jsonl") as timings,
            predictions.open("w", encoding="utf-8") as rows,
            timings.open("w", encoding="utf-8") as seconds,
        ):
            for prediction in self.predictions():
                rows.write(json.dumps(prediction.record(), ensure_ascii=False) + "\n")
                seconds.write(json.dumps({"row": prediction.row, **prediction.seconds}) + "\n")
                found.append(prediction)
        return found


def read_predictions(folder: Path) -> list[Prediction]:
    """The rows of a finished evaluation. Raises InputError if there is none in the folder."""
    path = folder / "predictions.jsonl"
    try:
        return [Prediction.of_record(json.loads(line)) for line in read_lines(path)]
    except FileNotFoundError as error:
        raise InputError(
            f"{folder} holds no finished evaluation (no predictions.jsonl); run `seg-zero evaluate --out {folder}`"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}); run the evaluation again") from error


@contextmanager
def only_evaluation(folder: Path) -> Iterator[None]:
    """Lock the folder against other evaluations.

    Raises InputError if one is already writing to it, or if it holds unrelated files: then nothing is written.
    """
    make_folder(folder)
    _refuse_unrelated(folder)
    with locked(folder / "lock", f"another evaluation writes to {folder}; wait for it, or give another --out"):
        yield


def open_folder(folder: Path, settings: Mapping[str, Any]) -> None:
    """Make the folder that of an evaluation with these settings, if it is not that already.

    Raises InputError if it holds an evaluation with other settings, or unrelated files.
    """
    make_folder(folder)
    path = folder / MANIFEST
    if path.is_file():
        _check_same(path, settings)
        return
    _refuse_unrelated(folder)
    write_json(path, settings)


def _refuse_unrelated(folder: Path) -> None:
    strange = sorted(entry.name for entry in folder.iterdir() if entry.name != "lock")
    if strange and MANIFEST not in strange:
        raise InputError(f"--out {folder} holds {', '.join(strange[:3])} and no evaluation; name a new or empty folder")


def _check_same(path: Path, settings: Mapping[str, Any]) -> None:
    """Raises InputError if the manifest at ``path`` holds other settings."""
    try:
        before = read_json(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); name a new folder") from error
    # As read back from JSON, so that lists and tuples are equal.
    now = json.loads(json.dumps(settings))
    changes = "; ".join(_changes(before, now))
    if changes:
        raise InputError(f"{path.parent} holds an evaluation with other settings ({changes}); name a new folder")


def _changes(before: Any, now: Any, name: str = "") -> Iterator[str]:
    """One phrase for each value that differs; those inside of mappings by their dotted names."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in {**before, **now}:
            yield from _changes(before.get(key), now.get(key), f"{name}.{key}" if name else str(key))
    elif before != now:
        yield f"{name} was {_brief(before)} and is {_brief(now)}"


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 20]}… ({len(text)} characters)"
