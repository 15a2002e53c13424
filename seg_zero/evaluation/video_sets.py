"""Questions about clips with true masks, from the folders of ReVOS, MeViS and Ref-DAVIS.

ReVOS       meta_expressions_valid_.json, mask_dict.json, JPEGImages/VIDEO/*.jpg (or VIDEO/*.jpg)
MeViS       meta_expressions.json, mask_dict.json, JPEGImages/VIDEO/*.jpg (the folder valid_u)
Ref-DAVIS   meta_expressions/valid/meta_expressions.json, valid/JPEGImages/VIDEO/*.jpg, valid/Annotations/VIDEO/*.png
            (in the layout of Ref-YouTube-VOS, as the usual conversion makes it)

Expressions are ``{"videos": {VIDEO: {"frames": [...], "expressions": {NUMBER: {"exp": ..., ...}}}}}``. In the first two
``anno_id`` lists keys of mask_dict.json, whose values are a COCO RLE or null for each frame; in the third ``obj_id`` is
the object's value in the annotations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from seg_zero.data.inputs import PICTURES
from seg_zero.errors import InputError, one_line
from seg_zero.files import read_json
from seg_zero.masks import segmentation_to_mask

META_FILES = (
    "meta_expressions_valid_.json",
    "meta_expressions.json",
    "meta_expressions/valid/meta_expressions.json",
)

Truth = Callable[[int, tuple[int, int]], np.ndarray]


@dataclass(frozen=True)
class Expression:
    """A question about a clip.

    key: of video and expression, once in a set; folder and frames: the clip's pictures, in order; kind: the type that
    the set gives it, or None; truth: (frame index, (width, height)) to the boolean H x W mask of everything that the
    question means. ``truth`` raises InputError for an annotation that is missing or of another size.
    """

    key: str
    question: str
    folder: Path
    frames: tuple[str, ...] = field(repr=False)
    kind: str | None
    truth: Truth = field(repr=False)


def is_video_set(name: str) -> bool:
    """Whether ``--data`` names a folder of one of these sets."""
    folder = Path(name).expanduser()
    return folder.is_dir() and any((folder / file).is_file() for file in META_FILES)


def read_video_set(root: Path) -> list[Expression]:
    """The expressions of a folder, in its order. Raises InputError if files are missing or malformed."""
    root = root.expanduser()
    meta_path = next((root / name for name in META_FILES if (root / name).is_file()), None)
    if meta_path is None:
        raise InputError(f"video set {root} holds none of {', '.join(META_FILES)}; see docs/video.md for the layouts")
    mask_path = root / "mask_dict.json"
    masks = _json(mask_path) if mask_path.is_file() else None
    base = root / "valid" if meta_path.parent != root else root
    annotations = base / "Annotations"
    if masks is None and not annotations.is_dir():
        raise InputError(
            f"video set {root} has neither {mask_path.name} nor {annotations.relative_to(root)}; without true masks "
            "there is nothing to score"
        )
    found: list[Expression] = []
    videos = _get(_json(meta_path), "videos", dict, str(meta_path))
    for video, entry in videos.items():
        where = f"{meta_path}: video {video}"
        names = [str(name) for name in _get(entry, "frames", list, where)]
        folder = next((place for place in (base / "JPEGImages" / video, base / video) if place.is_dir()), None)
        if folder is None:
            raise InputError(f"{where} has no frames in {base / 'JPEGImages' / video}; unpack them there")
        frames = tuple(_picture(folder, name, where) for name in names)
        for number, item in _get(entry, "expressions", dict, where).items():
            spot = f"{where}, expression {number}"
            kind = None if not isinstance(item, dict) or item.get("type_id") is None else f"type {item['type_id']}"
            truth = (
                _annotated(annotations / video, names, _object_id(item, spot))
                if masks is None
                else _encoded(masks, _get(item, "anno_id", list, spot), len(names), spot)
            )
            question = _get(item, "exp", str, spot)
            found.append(Expression(f"{video}/{number}", question, folder, frames, kind, truth))
    if not found:
        raise InputError(f"{meta_path} holds no expressions")
    return found


def _json(path: Path) -> Any:
    try:
        return read_json(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({one_line(error)}); download it again") from error


def _get(entry: Any, name: str, kind: type, where: str) -> Any:
    if not isinstance(entry, dict) or not isinstance(entry.get(name), kind):
        raise InputError(f"{where} has no {name!r} that is a {kind.__name__}; see docs/video.md for the layout")
    return entry[name]


def _object_id(item: Any, where: str) -> int:
    value = item.get("obj_id") if isinstance(item, dict) else None
    if not str(value).isdecimal():
        raise InputError(f"{where} has obj_id {value!r}, which is no number of an object")
    return int(str(value))


def _picture(folder: Path, name: str, where: str) -> str:
    for ending in ("", *PICTURES):
        if (folder / (name + ending)).is_file():
            return name + ending
    raise InputError(f"{where} names frame {name}, which is not in {folder}; unpack the frames again")


def _encoded(masks: Any, numbers: list[Any], count: int, where: str) -> Truth:
    """The union of some entries of mask_dict.json."""
    tracks = []
    for number in numbers:
        track = masks.get(str(number)) if isinstance(masks, dict) else None
        if not isinstance(track, list) or len(track) != count:
            raise InputError(
                f"{where}: annotation {number} of mask_dict.json is missing or does not have {count} frames"
            )
        tracks.append(track)

    def truth(index: int, size: tuple[int, int]) -> np.ndarray:
        union = np.zeros(size[::-1], dtype=bool)
        for number, track in zip(numbers, tracks, strict=True):
            if track[index] is not None:
                try:
                    union |= segmentation_to_mask(track[index], *size[::-1])
                except ValueError as error:
                    raise InputError(f"{where}: annotation {number}, frame {index}: {error}") from error
        return union

    return truth


def _annotated(folder: Path, names: list[str], value: int) -> Truth:
    """Where a palette picture holds the object's value."""

    def truth(index: int, size: tuple[int, int]) -> np.ndarray:
        path = folder / f"{names[index]}.png"
        try:
            with Image.open(path) as picture:
                values = np.asarray(picture if picture.mode in ("P", "L") else picture.convert("L"))
        except (OSError, ValueError, SyntaxError) as error:
            raise InputError(f"annotation {path} cannot be read ({one_line(error)}); unpack it again") from error
        if values.shape != size[::-1]:
            raise InputError(f"annotation {path} has shape {values.shape} and its frame {size[::-1]}; they must agree")
        return np.asarray(values == value)

    return truth
