"""The dialogues of ``data.train_files`` and ``data.val_files``, and earlier answers to them. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import ListConfig

from seg_zero.dialogue.data.records import BadRecord, DialogueRecord, Reading, read_dialogues
from seg_zero.dialogue.renderers import MAX_CROPS
from seg_zero.errors import InputError, one_line
from seg_zero.evaluation.dialogues import ALL_DIALOGUES, PREDICTED
from seg_zero.files import read_lines
from seg_zero.training.row_files import names_of, read_bad_rows
from seg_zero.training.settings import ROUNDS, DialogueSettings


@dataclass(frozen=True)
class Script:
    """A dialogue; source: the absolute path of its file; row: its place among the file's usable dialogues, from 0."""

    source: str
    row: int
    dialogue: DialogueRecord


def dialogue_files(value: str | Sequence[str] | ListConfig) -> list[Path]:
    """The files of a setting, absolute. Raises InputError for one that is not there."""
    paths = [Path(name).expanduser().resolve() for name in names_of(value)]
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path} is no file of dialogues; `seg-zero data dialogues --out FILE` makes one")
    return paths


def bad_dialogues(
    value: str | Sequence[str] | ListConfig, read: Callable[[Path], Reading] = read_dialogues
) -> dict[str, list[BadRecord]]:
    """The records that cannot be used, by file; files without any are left out. read: of one file."""
    found = {str(path): read(path).bad for path in dialogue_files(value)}
    return {name: bad for name, bad in found.items() if bad}


def scripts_of(
    value: str | Sequence[str] | ListConfig,
    settings: DialogueSettings,
    max_samples: int,
    bad_rows: str | None,
    read: Callable[[Path], Reading] = read_dialogues,
) -> list[Script]:
    """The dialogues of a setting, of at most ``max_rounds`` rounds, and at most ``max_samples`` (0 or less: all).

    bad_rows: file that names the files whose unusable records are skipped; read: of one file. Raises InputError for
    unusable records of others, and for a round that the chosen way cannot show.
    """
    skipping = read_bad_rows(bad_rows) if bad_rows else {}
    scripts: list[Script] = []
    for path in dialogue_files(value):
        reading = read(path)
        if str(path) in skipping:
            reading = replace(reading, bad=[])
        for row, item in enumerate(reading.usable()):
            cut = replace(item, rounds=item.rounds[: settings.max_rounds], things=())
            _check_shown(path, cut, settings)
            scripts.append(Script(str(path), row, cut))
    return scripts[:max_samples] if max_samples > 0 else scripts


def count(scripts: Sequence[Script], settings: DialogueSettings) -> int:
    """Rows of a run: rounds of the first stage, else dialogues."""
    return sum(len(one.dialogue.rounds) for one in scripts) if settings.rows == ROUNDS else len(scripts)


def earlier_answers(path: str, scripts: Sequence[Script]) -> dict[str, list[dict[str, Any]]]:
    """By id of a dialogue, the masks (COCO RLE) that a policy answered its rounds with, under predicted history.

    path: folder of ``seg-zero evaluate``, or its file of dialogues. Raises InputError if it cannot be read or does not
    hold every round of the scripts.
    """
    file = Path(path).expanduser()
    file = file / ALL_DIALOGUES if file.is_dir() else file
    try:
        records = [json.loads(line) for line in read_lines(file)]
        found = {
            str(one["id"]): [(r["question"], dict(r["mask"])) for r in one["rounds"][PREDICTED]] for one in records
        }
    except OSError as error:
        raise InputError(
            f"dialogue.predictions={path} cannot be read ({error.strerror}); `seg-zero evaluate --data DIALOGUES --out "
            "FOLDER` makes it"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"dialogue.predictions={path} is no evaluation of dialogues ({one_line(error)})") from error
    for script in scripts:
        item = script.dialogue
        answered = found.get(item.id, [])
        for number, one in enumerate(item.rounds, start=1):
            if len(answered) < number or answered[number - 1][0] != one.asked.question:
                raise InputError(
                    f"dialogue.predictions={path} has no answer to round {number} of dialogue {item.id} of "
                    f"{script.source}; evaluate the policy on that file"
                )
            if answered[number - 1][1].get("size") != [item.height, item.width]:
                raise InputError(
                    f"dialogue.predictions={path}: the mask of round {number} of dialogue {item.id} is not of the "
                    "picture's size; evaluate the policy on that file"
                )
    return {name: [mask for _, mask in rounds] for name, rounds in found.items()}


def _check_shown(path: Path, item: DialogueRecord, settings: DialogueSettings) -> None:
    """With crops, no question refers to more than are shown."""
    if settings.references != "crop":
        return
    for number, one in enumerate(item.rounds, start=1):
        shown = len(one.asked.references) + bool(one.given)
        if shown > MAX_CROPS:
            raise InputError(
                f"{path}, dialogue {item.id}: round {number} refers to {shown} objects, more than the {MAX_CROPS} "
                "pictures of dialogue.references=crop; set it to text or marks"
            )
