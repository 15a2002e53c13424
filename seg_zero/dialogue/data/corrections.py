"""Dialogues whose every further round asks to correct the one before, from dataset rows with masks."""

from __future__ import annotations

from pathlib import Path

from seg_zero.data.source import open_rows
from seg_zero.dialogue.data.records import BadRecord, DialogueRecord, Reading, TrueRound, reason_of
from seg_zero.dialogue.references import Asked
from seg_zero.dialogue.turns import correction_of
from seg_zero.errors import InputError
from seg_zero.files import write_image


def dialogues_of_rows(source: str, folder: Path, turns: int, count: int | None = None) -> Reading:
    """A dialogue of 1 + ``turns`` rounds for each of the first ``count`` rows; all its rounds have the row's mask.

    source: what :func:`seg_zero.data.source.open_rows` opens; folder: for the pictures. Rows without a mask or with an
    unreadable picture are listed as bad.
    """
    rows, reading = open_rows(source), Reading(source)
    ids: set[str] = set()
    for number in range(len(rows) if count is None else min(count, len(rows))):
        name = f"row {number}"
        try:
            row = rows[number]
            name = row.id
            if row.mask is None:
                raise InputError("it has no mask")
            picture = row.image()
            path = folder / f"correction-{number:06d}.png"
            write_image(path, picture)
            asked = [Asked(row.problem), *(correction_of(row.problem, turn) for turn in range(1, turns + 1))]
            rounds = tuple(TrueRound(one, row.mask) for one in asked)
            unique = f"{row.id}-{number}" if row.id in ids or not row.id else row.id
            ids.add(unique)
            reading.dialogues.append(DialogueRecord(unique, path, picture.width, picture.height, rounds))
        except InputError as error:
            reading.bad.append(BadRecord(number + 1, name, reason_of(error)))
    return reading
