"""Dialogues as JSON files: rounds with COCO RLE masks, and which image they are about."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from seg_zero.dialogue.memory import MAX_ROUNDS, Memory, Round
from seg_zero.dialogue.references import read_question
from seg_zero.errors import InputError, one_line
from seg_zero.files import read_json, write_json
from seg_zero.images import ImageLike, pixel_hash
from seg_zero.masks import encode_mask, segmentation_to_mask
from seg_zero.prompting import check_question
from seg_zero.results.result import SegmentationResult

VERSION = 1


@dataclass(frozen=True, eq=False)
class SavedDialogue:
    """The content of a file. image_name: the path of the image that it is about, or ""; image_hash: of its pixels;
    records: rounds as JSON, which take their masks when the image is known."""

    path: Path
    image_name: str
    image_hash: str
    records: tuple[dict[str, Any], ...]

    def image_or(self, given: ImageLike | None, remedy: str) -> ImageLike:
        """The image that was given, else the one that the file names.

        Raises InputError, which ends with ``remedy``, if the file names none, or one that is not there.
        """
        if given is not None:
            return given
        if not self.image_name:
            raise InputError(f"dialogue {self.path} was held about a picture without a name; {remedy}")
        if not os.path.lexists(self.image_name):
            raise InputError(
                f"dialogue {self.path} was held about {self.image_name}, which does not exist here; {remedy}"
            )
        return self.image_name

    def for_image(self, image: Image.Image) -> tuple[Round, ...]:
        """The rounds about this RGB image. Raises InputError if it is another one, or if a round is damaged."""
        if pixel_hash(image).hex() != self.image_hash:
            raise InputError(
                f"dialogue {self.path} was held about another image; give that image, or begin a new dialogue"
            )
        memory = Memory((), max(MAX_ROUNDS, len(self.records)))
        for number, record in enumerate(self.records, start=1):
            try:
                item = _round_of(record, image)
                memory.check(item.asked, allow_empty=True)
            except (InputError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
                where = f"dialogue {self.path}, round {number}"
                raise InputError(f"{where} cannot be read ({one_line(error)}); save the dialogue again") from error
            memory = memory.added(item)
        return memory.rounds


def dialogue_record(image_name: str, image: Image.Image, rounds: Sequence[Round]) -> dict[str, Any]:
    """A dialogue about an RGB image as JSON values: masks as COCO RLE, and the name and a hash of the image."""
    return {
        "version": VERSION,
        "image": image_name,
        "image_hash": pixel_hash(image).hex(),
        "width": image.width,
        "height": image.height,
        "rounds": [_record(item) for item in rounds],
    }


def write_dialogue(path: Path, record: dict[str, Any]) -> None:
    """Write what :func:`dialogue_record` gave atomically. Raises InputError for a place that cannot be a file."""
    try:
        write_json(path, record)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror or error}); name another file") from error


def read_dialogue(path: Path, max_rounds: int = MAX_ROUNDS) -> SavedDialogue:
    """Raises InputError for a file that is missing, damaged, of another version or with too many rounds."""
    try:
        record = read_json(path)
        if record["version"] != VERSION:
            raise ValueError(f"its version is {record['version']!r}, not {VERSION}")
        name, digest, rounds = record["image"], record["image_hash"], record["rounds"]
        if not isinstance(name, str) or not isinstance(digest, str) or not isinstance(rounds, list):
            raise ValueError("image, image_hash or rounds are of another type")
    except OSError as error:
        raise InputError(f"dialogue {path} cannot be read ({error.strerror}); check the path") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is no dialogue ({one_line(error)}); give a file that a dialogue saved") from error
    if len(rounds) > max_rounds:
        raise InputError(f"dialogue {path} has {len(rounds)} rounds, more than {max_rounds}; raise max_rounds")
    return SavedDialogue(path, name, digest, tuple(rounds))


def _record(item: Round) -> dict[str, Any]:
    return {
        "question": item.question,
        "references": list(item.references),
        "relation": item.asked.relation,
        "given": [] if item.given is None else [encode_mask(mask) for mask in item.given],
        "answer": item.result.to_dict(),
    }


def _round_of(record: dict[str, Any], image: Image.Image) -> Round:
    asked = read_question(record["question"], record["references"], str(record["relation"]))
    check_question(asked.question)
    given = [segmentation_to_mask(rle, image.height, image.width) for rle in record["given"]]
    result = SegmentationResult.from_dict({**record["answer"], "question": asked.question}, image)
    return Round(asked, result, np.stack(given) if given else None)
