"""RegionReasoner's turns (arXiv 2602.03733) to dialogues.

A record has ``image_id``, ``image_path`` and ``conversational_turns``, each with ``question``, ``bboxes``, ``masks``,
``ann_ids`` and, where it refers back, ``context_from_turn`` (from 0). The question then holds a placeholder for the
earlier box.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from seg_zero.data.inputs import find_file, upright_size
from seg_zero.dialogue.data.records import DialogueRecord, TrueRound, checked_dialogue
from seg_zero.dialogue.references import read_question
from seg_zero.masks import encode_mask, segmentation_to_mask

PLACEHOLDER = "<box>{context_bbox}</box>"


def dialogue_of_turns(record: Any, number: int, root: Path) -> DialogueRecord:
    """A dialogue of a record; its picture is relative to ``root``, and an earlier box becomes "instance k".

    Of a turn's masks the first is the truth, as the published evaluation counts. Raises ValueError or InputError for
    what cannot be used.
    """
    image = find_file(root, record["image_path"])
    if not image.is_file():
        raise ValueError(f"image {record['image_path']!r} does not exist")
    width, height = upright_size(image)
    rounds = []
    for place, turn in enumerate(record["conversational_turns"], start=1):
        question, context = turn["question"], turn.get("context_from_turn")
        if not isinstance(question, str):
            raise ValueError(f"turn {place}: the question is a {type(question).__name__}")
        if context is None:
            if PLACEHOLDER in question:
                raise ValueError(f"turn {place}: the question has the box of an earlier turn, but names none")
            asked = read_question(question)
        elif type(context) is not int or not 0 <= context < place - 1:
            raise ValueError(f"turn {place}: context_from_turn {context!r} is no earlier turn, from 0")
        else:
            asked = read_question(question.replace(PLACEHOLDER, f"instance {context + 1}"), [context + 1])
        if not turn["masks"]:
            raise ValueError(f"turn {place}: it has no mask")
        rounds.append(TrueRound(asked, encode_mask(_mask(turn["masks"][0], place, width, height))))
    return checked_dialogue(f"{record['image_id']}-{number}", image, width, height, rounds)


def _mask(value: Any, place: int, width: int, height: int) -> np.ndarray:
    """Rows of 0 and 1, COCO RLE or polygons."""
    if isinstance(value, dict):
        return segmentation_to_mask(value, height, width)
    mask = np.asarray(value)
    if mask.shape != (height, width) or not np.isin(mask, (0, 1)).all():
        raise ValueError(f"turn {place}: the mask is no array of 0 and 1 of {height} rows and {width} columns")
    return mask.astype(bool)
