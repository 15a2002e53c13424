"""MRSeg's conversations to dialogues and back: turns with markers (:mod:`seg_zero.dialogue.data.markers`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seg_zero.data.inputs import find_file, upright_size
from seg_zero.dialogue.data.markers import (
    BOX_ENCODE,
    IMAGE,
    MASK_DECODE,
    MASK_ENCODE,
    NO_RELATION,
    NULL,
    Marker,
    read_markers,
    same_picture,
    write_markers,
)
from seg_zero.dialogue.data.mask_sources import MaskSource
from seg_zero.dialogue.data.records import DialogueRecord, TrueRound, checked_dialogue
from seg_zero.dialogue.references import read_question
from seg_zero.masks import encode_mask
from seg_zero.prompting import check_characters

SPEAKERS = ("human", "gpt")
Exists = Callable[[str], bool]


@dataclass(frozen=True)
class Exchange:
    """One round: what was asked and what was answered, as text and markers.

    ind: 1-based rounds that it refers to, None if the record does not say.
    """

    asked: tuple[str | Marker, ...]
    answered: tuple[str | Marker, ...]
    ind: tuple[int, ...] | None = None

    @property
    def question(self) -> str:
        return " ".join("".join(part for part in self.asked if isinstance(part, str)).split())

    def markers(self, *kinds: str) -> list[Marker]:
        """Those of these kinds (all, if none is named), in order."""
        every = [part for part in (*self.asked, *self.answered) if isinstance(part, Marker)]
        return [marker for marker in every if not kinds or marker.kind in kinds]

    @property
    def encoded(self) -> list[Marker]:
        """The earlier masks, each once for its mask and its box."""
        found: list[Marker] = []
        for kind in (MASK_ENCODE, BOX_ENCODE):
            some = self.markers(kind)
            found = some if len(some) > len(found) else found
        return found


@dataclass(frozen=True)
class Conversation:
    """A conversation about one picture; name: its ``conv_id``, or ""."""

    rounds: tuple[Exchange, ...]
    name: str = ""

    @property
    def image(self) -> str:
        """The picture that it begins with, else that of its first mask."""
        every = [marker for item in self.rounds for marker in item.markers()]
        return next((marker.image for marker in every if marker.kind == IMAGE), every[0].image)


def has_picture(folder: Path, image: str) -> bool:
    """Whether the picture that a marker names is in ``folder``; backslashes may stand for slashes."""
    return os.path.isfile(find_file(folder, image))  # Path.is_file raises OSError for a name that is too long


def read_conversation(record: Any, exists: Exists = lambda image: True) -> Conversation:
    """A JSON record of MRSeg. exists: whether a picture is there.

    Raises ValueError for turns that do not alternate, text that no file can hold, markers that cannot be read, a
    picture that is missing or changes, an answer without a mask, and references that do not fit.
    """
    if not isinstance(record, dict):
        raise ValueError(f"it is a JSON {type(record).__name__}, not an object")
    turns = record.get("conversations")
    if not isinstance(turns, list) or not turns:
        raise ValueError("its conversations are no list of turns")
    if len(turns) % 2:
        raise ValueError(f"it has {len(turns)} turns, and no even number")
    if not all(isinstance(turn, dict) for turn in turns):
        raise ValueError("a turn is not an object of from and value")
    name = _text(str(record.get("conv_id", "")), "its conv_id")
    rounds: list[Exchange] = []
    for place in range(0, len(turns), 2):
        number = place // 2 + 1
        pair = turns[place : place + 2]
        if tuple(turn.get("from") for turn in pair) != SPEAKERS:
            raise ValueError(f"round {number} is not a turn of human and one of gpt")
        try:
            asked, answered = (tuple(read_markers(_text(turn.get("value"), "the text of a turn"))) for turn in pair)
            rounds.append(_checked(Exchange(asked, answered, _ind(pair[0].get("ind"))), number))
        except ValueError as error:
            raise ValueError(f"round {number}: {error}") from error
    found = Conversation(tuple(rounds), name)
    pictures = [marker.image for item in rounds for marker in item.markers(IMAGE)]
    for image in pictures:
        if image.replace("\\", "/") != pictures[0].replace("\\", "/"):
            raise ValueError(f"the picture changes from {pictures[0]!r} to {image!r}")
        if not exists(image):
            raise ValueError(f"image {image!r} does not exist")
    return found


def write_conversation(conversation: Conversation) -> dict[str, Any]:
    """The record that :func:`read_conversation` reads."""
    turns = []
    for item in conversation.rounds:
        turn: dict[str, Any] = {"from": "human", "value": write_markers(list(item.asked))}
        turns.append(turn if item.ind is None else {**turn, "ind": list(item.ind)})
        turns.append({"from": "gpt", "value": write_markers(list(item.answered))})
    named = {"conv_id": conversation.name} if conversation.name else {}
    return {"task": "segmentation", "base": "[null]", **named, "conversations": turns}


def dialogue_of(conversation: Conversation, name: str, images: Path, masks: MaskSource) -> DialogueRecord:
    """A conversation with its masks. Raises InputError or ValueError for a mask that is missing or does not fit.

    A reference is the round that ``ind`` names, else the latest that answered with its id, else a region given by the
    user. An answer with several masks is their union.
    """
    image = find_file(images, conversation.image)
    width, height = upright_size(image)
    rounds: list[TrueRound] = []
    for number, item in enumerate(conversation.rounds, start=1):
        for marker in item.markers():
            if not same_picture(marker.image, conversation.image):
                raise ValueError(
                    f"round {number}: {marker.write()} is of the picture {marker.image!r}, and the dialogue of "
                    f"{conversation.image!r}"
                )
        references, given = [], []
        for place, marker in enumerate(item.encoded):
            earlier = _round_of(marker, item, place, conversation.rounds[: number - 1])
            if earlier is not None:
                references.append(earlier)
            else:
                given.append(encode_mask(masks.mask(marker, image, (width, height))))
        targets = item.markers(MASK_DECODE)
        union = masks.mask(targets[0], image, (width, height))
        for marker in targets[1:]:
            union = union | masks.mask(marker, image, (width, height))
        relation = targets[0].relation
        asked = read_question(item.question, references, "" if relation == NO_RELATION else relation)
        rounds.append(TrueRound(asked, encode_mask(union), tuple(given)))
    return checked_dialogue(name, image, width, height, rounds)


def conversation_of(dialogue: DialogueRecord, image: str, dataset: str) -> tuple[Conversation, dict[str, Any]]:
    """A dialogue as a conversation about the picture named ``image``, and its masks by id (COCO RLE).

    Ids are ``NAME_ROUND``, those of regions ``NAME_ROUND-REGION``.
    """
    masks: dict[str, Any] = {}
    stem = "".join(letter if letter.isalnum() or letter in "_-." else "-" for letter in dialogue.id)
    rounds: list[Exchange] = []
    for number, one in enumerate(dialogue.rounds, start=1):
        own = f"{stem}_{number}"
        masks[own] = one.mask
        ids = [f"{stem}_{earlier}" for earlier in one.asked.references]
        for place, rle in enumerate(one.given, start=1):
            masks[f"{own}-{place}"] = rle
            ids.append(f"{own}-{place}")
        asked: list[str | Marker] = [Marker(IMAGE, image)] if number == 1 else []
        for mask_id in ids:
            asked += [Marker(kind, image, dataset, mask_id) for kind in (MASK_ENCODE, BOX_ENCODE)]
        asked.append(f" {one.asked.question}" if asked else one.asked.question)
        target = Marker(MASK_DECODE, image, dataset, own, one.asked.relation or NO_RELATION, tuple(ids[:2]), True)
        if not ids and not one.asked.relation:
            target = replace(target, colons=False)
        ind = one.asked.references if one.asked.references and not one.given else None
        rounds.append(Exchange(tuple(asked), (target, "."), ind))
    return Conversation(tuple(rounds), dialogue.id), masks


def _text(value: Any, what: str) -> str:
    """``value`` if it is text that a file can hold. Raises ValueError that begins with ``what``."""
    if not isinstance(value, str):
        raise ValueError(f"{what} is a {type(value).__name__}, not text")
    check_characters(value, what)
    return value


def _ind(value: Any) -> tuple[int, ...] | None:
    """The field ``ind``: a round, a list of rounds, or -1 for none."""
    if value is None:
        return None
    several = value if isinstance(value, list) else [value]
    if any(type(one) is not int or (one < 1 and one != -1) for one in several):
        raise ValueError(f"ind {value!r} is neither a round nor a list of rounds")
    return tuple(one for one in several if one != -1)


def _checked(item: Exchange, number: int) -> Exchange:
    if not any(marker.kind == MASK_DECODE for marker in item.answered if isinstance(marker, Marker)):
        raise ValueError("the answer has no mask")
    if any(marker.kind == MASK_DECODE for marker in item.asked if isinstance(marker, Marker)):
        raise ValueError("the question has the mask of an answer")
    encoded = item.encoded
    if item.ind is None:
        if any(marker.id == NULL for marker in encoded):
            raise ValueError("it refers to a mask that is yet to be made, and ind does not say of which round")
        return item
    if max(item.ind, default=0) >= number:
        raise ValueError(f"ind {list(item.ind)} names a round that is not earlier")
    if len(item.ind) != len(encoded):
        raise ValueError(f"ind names {len(item.ind)} rounds, and {len(encoded)} masks are encoded")
    return item


def _round_of(marker: Marker, item: Exchange, place: int, earlier: Sequence[Exchange]) -> int | None:
    if item.ind is not None:
        return item.ind[place]
    for number in range(len(earlier), 0, -1):
        if any(
            (one.dataset, one.id) == (marker.dataset, marker.id) for one in earlier[number - 1].markers(MASK_DECODE)
        ):
            return number
    return None
