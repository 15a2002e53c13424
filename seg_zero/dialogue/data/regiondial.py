"""RegionReasoner's turns (arXiv 2602.03733) to dialogues.

A record has ``image_id``, ``image_path`` and ``conversational_turns``, each with ``question``, ``bboxes``, ``masks``,
``ann_ids`` and, where it refers back, ``context_from_turn`` (from 0). The question then holds a placeholder for the
earlier box.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from seg_zero.data.inputs import upright_size
from seg_zero.dialogue.data.records import (
    UNUSABLE,
    DialogueRecord,
    TrueRound,
    checked_dialogue,
    kind_of,
    list_of,
    object_of,
    picture_of,
    reason_of,
)
from seg_zero.dialogue.references import read_question
from seg_zero.masks import encode_mask, segmentation_to_mask

PLACEHOLDER = "<box>{context_bbox}</box>"


def dialogue_of_turns(record: Any, number: int, root: Path) -> DialogueRecord:
    """A dialogue of a record; its picture is relative to ``root``, and an earlier box becomes "instance k".

    Of a turn's masks the first is the truth, as the published evaluation counts. Raises ValueError or InputError for
    what cannot be used.
    """
    image = picture_of(root, record["image_path"])
    width, height = upright_size(image)
    rounds = []
    for place, turn in enumerate(list_of(record["conversational_turns"], "conversational_turns"), start=1):
        try:
            rounds.append(_round_of(object_of(turn, "it"), place, width, height))
        except UNUSABLE as error:
            raise ValueError(f"turn {place}: {reason_of(error)}") from error
    return checked_dialogue(f"{record['image_id']}-{number}", image, width, height, rounds)


def _round_of(turn: dict[str, Any], place: int, width: int, height: int) -> TrueRound:
    question, context = turn["question"], turn.get("context_from_turn")
    if not isinstance(question, str):
        raise ValueError(f"the question is {kind_of(question)}, not text")
    if context is None:
        if PLACEHOLDER in question:
            raise ValueError("the question has the box of an earlier turn, but names none")
        asked = read_question(question)
    elif type(context) is not int or not 0 <= context < place - 1:
        raise ValueError(f"context_from_turn {context!r} is no earlier turn, from 0")
    else:
        asked = read_question(question.replace(PLACEHOLDER, f"instance {context + 1}"), [context + 1])
    masks = list_of(turn["masks"], "masks")
    if not masks:
        raise ValueError("it has no mask")
    return TrueRound(asked, encode_mask(_mask(masks[0], width, height)))


def _mask(value: Any, width: int, height: int) -> np.ndarray:
    """Rows of 0 and 1, or COCO RLE."""
    if isinstance(value, dict):
        return segmentation_to_mask(value, height, width)
    try:
        mask = np.asarray(value)
    except ValueError:  # rows of several lengths
        mask = np.empty(0)
    if mask.shape != (height, width) or mask.dtype.kind not in "biuf" or not np.isin(mask, (0, 1)).all():
        raise ValueError(f"the mask is no array of 0 and 1 of {height} rows and {width} columns")
    return mask.astype(bool)
