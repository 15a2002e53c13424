"""Dialogues as JSON files: rounds with COCO RLE masks, and which image they are about."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from seg_zero.dialogue.memory import MAX_ROUNDS, Memory, Round
from seg_zero.dialogue.references import read_question
from seg_zero.errors import InputError, one_line
from seg_zero.files import read_json, write_json
from seg_zero.masks import decode_mask, encode_mask
from seg_zero.prompting import check_question
from seg_zero.results.result import SegmentationResult

VERSION = 1


@dataclass(frozen=True, eq=False)
class SavedDialogue:
    """Rounds about an image. image_name: its path, or ""; image_hash: of its pixels; records: rounds as JSON, which
    take their masks when the image is known."""

    image_name: str
    image_hash: str
    rounds: tuple[Round, ...] = ()
    records: tuple[dict[str, Any], ...] = ()
    path: Path | None = None

    def for_image(self, image: Image.Image) -> tuple[Round, ...]:
        """The rounds about this RGB image. Raises InputError if it is another one, or if a round is damaged."""
        if image_hash(image) != self.image_hash:
            about = f"dialogue {self.path}" if self.path else "the dialogue"
            raise InputError(f"{about} was held about another image; give that image, or begin a new dialogue")
        memory = Memory(self.rounds, max(MAX_ROUNDS, len(self.records) + len(self.rounds)))
        for number, record in enumerate(self.records, start=1):
            try:
                item = _round_of(record, image)
                memory.check(item.asked, allow_empty=True)
            except (InputError, ValueError, KeyError, TypeError, AttributeError) as error:
                where = f"dialogue {self.path}, round {number}"
                raise InputError(f"{where} cannot be read ({one_line(error)}); save the dialogue again") from error
            memory = memory.added(item)
        return memory.rounds


def image_hash(image: Image.Image) -> str:
    """Of the size and pixels of an RGB image."""
    return hashlib.blake2b(image.tobytes(), digest_size=16, salt=f"{image.width}".encode()).hexdigest()


def write_dialogue(path: Path, dialogue: SavedDialogue, image: Image.Image) -> None:
    """Write a dialogue atomically. Raises InputError for a place that cannot be a file."""
    record = {
        "version": VERSION,
        "image": dialogue.image_name,
        "image_hash": dialogue.image_hash,
        "width": image.width,
        "height": image.height,
        "rounds": [_record(item) for item in dialogue.rounds],
    }
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
    return SavedDialogue(name, digest, records=tuple(rounds), path=path)


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
    given = [decode_mask(rle) for rle in record["given"]]
    if any(mask.shape != (image.height, image.width) for mask in given):
        raise ValueError("a region is not of the image's size")
    result = SegmentationResult.from_dict({**record["answer"], "question": asked.question}, image)
    return Round(asked, result, np.stack(given) if given else None)
