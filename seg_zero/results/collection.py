"""Many answers in one file for other tools: COCO, COCO results, LabelMe, Label Studio."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from seg_zero.errors import InputError
from seg_zero.files import write_text
from seg_zero.images import encode_png
from seg_zero.masks import encode_mask, mask_bounds
from seg_zero.results import label_studio
from seg_zero.results.labelme import labelme_file, labelme_shapes
from seg_zero.results.outputs import KINDS, LABELME_FOLDER

if TYPE_CHECKING:
    from seg_zero.results.result import SegmentationResult


@dataclass
class _Picture:
    """An image with what was found in it. name: begins the name of its own files; data: its file, if it has no path."""

    id: int
    name: str
    path: str
    size: tuple[int, int]
    data: bytes | None
    shapes: list[dict[str, Any]] = field(default_factory=list)
    brushes: list[dict[str, Any]] = field(default_factory=list)


class AnswerCollection:
    """Answers about any images, gathered one by one, and written as the files of other tools.

    Each question is a category. Pictures and masks are not kept, only what the chosen ``kinds`` hold of them.
    """

    def __init__(self, kinds: Collection[str]) -> None:
        self._kinds = tuple(kind for kind in KINDS if kind in kinds)
        self._pictures: dict[str, _Picture] = {}
        self._categories: dict[str, int] = {}
        self._annotations: list[dict[str, Any]] = []

    def add(self, result: SegmentationResult, name: str, path: str | None = None) -> None:
        """An answer; name: unique to its image, path: of the image's file (None: it has none and is embedded)."""
        if not self._kinds:
            return
        picture = self._pictures.get(name)
        if picture is None:
            data = encode_png(result.image) if path is None and "labelme" in self._kinds else None
            place = f"{name}.png" if path is None else os.path.abspath(path)
            picture = _Picture(len(self._pictures) + 1, name, place, result.image.size, data)
            self._pictures[name] = picture
        category = self._categories.setdefault(result.question, len(self._categories) + 1)
        if {"coco", "coco_results"} & set(self._kinds):
            self._annotations += [
                {
                    "id": len(self._annotations) + number,
                    "image_id": picture.id,
                    "category_id": category,
                    "bbox": _coco_box(mask_bounds(mask)),
                    "area": int(mask.sum()),
                    "segmentation": encode_mask(mask),
                    "iscrowd": 0,
                    "score": round(score, 4),
                }
                for number, (mask, score) in enumerate(result.regions, start=1)
            ]
        if "labelme" in self._kinds:
            groups = [shape["group_id"] for shape in picture.shapes if shape["group_id"] is not None]
            picture.shapes += labelme_shapes(result, max(groups, default=0) + 1)
        if "label_studio" in self._kinds:
            picture.brushes += label_studio.brushes(result, f"{picture.id}-{category}")

    def coco(self) -> dict[str, Any]:
        """A COCO data set, which FiftyOne imports; ``file_name`` is relative to the folder that holds all images."""
        return {
            "info": {"description": "answers of seg-zero"},
            "licenses": [],
            "categories": [{"id": number, "name": name} for name, number in self._categories.items()],
            "images": [
                {"id": one.id, "file_name": name, "width": one.size[0], "height": one.size[1]}
                for one, name in self._named()
            ],
            "annotations": self._annotations,
        }

    def coco_results(self) -> list[dict[str, Any]]:
        """COCO's format of results; ids of images and categories are those of :meth:`coco`."""
        kept = ("image_id", "category_id", "bbox", "segmentation", "score")
        return [{key: one[key] for key in kept} for one in self._annotations]

    def label_studio(self) -> list[dict[str, Any]]:
        """A task for each image; images are local files below the folder that holds all of them."""
        return [label_studio.task(name, one.brushes) for one, name in self._named()]

    def labelme(self, folder: Path) -> dict[str, dict[str, Any]]:
        """A LabelMe annotation for each image, by name, with the image's path relative to ``folder``."""
        return {
            one.name: labelme_file(
                one.shapes,
                one.size,
                one.path if one.data is not None else _posix(os.path.relpath(one.path, folder.absolute())),
                one.data,
            )
            for one in self._pictures.values()
        }

    def _named(self) -> list[tuple[_Picture, str]]:
        """The images with their paths relative to the folder that holds all of them."""
        folders = [os.path.dirname(one.path) for one in self._pictures.values() if os.path.isabs(one.path)]
        root = os.path.commonpath(folders) if folders else ""
        return [
            (one, _posix(os.path.relpath(one.path, root)) if os.path.isabs(one.path) else one.path)
            for one in self._pictures.values()
        ]

    def write(self, folder: Path, prefix: str = "") -> dict[str, str]:
        """Write the chosen kinds into ``folder``; returns their paths by kind.

        They are PREFIXcoco.json, PREFIXcoco_results.json, PREFIXlabel_studio.json with PREFIXlabel_studio.xml, the
        labelling interface, and labelme/NAME.json. Raises InputError if they cannot be written.
        """
        files = {kind: folder / f"{prefix}{kind}.json" for kind in self._kinds if kind != "labelme"}
        path = folder
        try:
            for kind, path in files.items():
                made = {"coco": self.coco, "coco_results": self.coco_results, "label_studio": self.label_studio}[kind]()
                write_text(path, json.dumps(made, ensure_ascii=False) + "\n")
            if "label_studio" in files:
                path = files["label_studio"].with_suffix(".xml")
                write_text(path, label_studio.labelling_config(list(self._categories)))
            if "labelme" in self._kinds:
                files["labelme"] = folder / LABELME_FOLDER
                for name, annotation in self.labelme(folder / LABELME_FOLDER).items():
                    path = folder / LABELME_FOLDER / f"{name}.json"
                    write_text(path, json.dumps(annotation, ensure_ascii=False, indent=2) + "\n")
        except OSError as error:
            raise InputError(f"{path} cannot be written ({error.strerror or error}); name another folder") from error
        return {kind: str(file) for kind, file in files.items()}


def _coco_box(bounds: tuple[float, float, float, float]) -> list[float]:
    return [bounds[0], bounds[1], bounds[2] - bounds[0], bounds[3] - bounds[1]]


def _posix(path: str) -> str:
    return os.fsencode(PurePath(path).as_posix()).decode(errors="replace")


def save_alone(result: SegmentationResult, folder: Path, stem: str, outputs: Collection[str]) -> dict[str, str]:
    """Write those of KINDS that ``outputs`` names for one answer: STEM_coco.json and so on, and labelme/STEM.json."""
    collection = AnswerCollection(outputs)
    collection.add(result, stem, result.name or None)
    return collection.write(folder, f"{stem}_")
