"""The files of labelled pictures: label map, overlay, heat maps, probabilities, COCO panoptic."""

from __future__ import annotations

import io
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from seg_zero.files import make_folder, write_bytes, write_image, write_json
from seg_zero.masks import mask_bounds
from seg_zero.open_vocabulary.labels import Label
from seg_zero.open_vocabulary.pictures import colour_of_label
from seg_zero.open_vocabulary.result import LabelledImage

OUTPUTS = ("labels", "overlay", "heatmaps", "probabilities", "panoptic")
PANOPTIC = "panoptic"  # the folder of its pictures, beside panoptic.json


def write_files(result: LabelledImage, folder: Path, stem: str, outputs: Collection[str]) -> dict[str, str]:
    """Write those outputs that lie in files of their own, as STEM_labels.png and so on; returns the paths by output.

    STEM_probabilities.npz holds ``probabilities`` (float16 T x H x W), ``names`` and ``kept``.
    """
    files: dict[str, Path] = {}
    pictures = {"labels": result.label_image, "overlay": result.overlay, "heatmaps": result.heatmaps}
    for kind, draw in pictures.items():
        if kind in outputs:
            files[kind] = folder / f"{stem}_{kind}.png"
            write_image(files[kind], draw())
    if "probabilities" in outputs:
        files["probabilities"] = folder / f"{stem}_probabilities.npz"
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            probabilities=result.probabilities().astype(np.float16),
            names=np.array(result.names[1:]),
            kept=result.kept,
        )
        write_bytes(files["probabilities"], buffer.getvalue())
    return {kind: str(path) for kind, path in files.items()}


class PanopticFile:
    """COCO's panoptic format: panoptic.json, and a picture for each image whose colours are the segments' numbers.

    Each label of an image is one segment ("stuff"); pixels without a label are 0, which COCO leaves out. At the end of
    a ``with`` block, by an interruption too, panoptic.json is written with the images added until then.
    """

    def __init__(self, labels: Collection[Label], folder: Path) -> None:
        self.folder, self.path = folder, folder / "panoptic.json"
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._categories = [
            {
                "id": number,
                "name": label.name,
                "supercategory": "",
                "isthing": 0,
                "color": list(colour_of_label(number)),
            }
            for number, label in enumerate(labels, start=1)
        ]

    def __enter__(self) -> PanopticFile:
        return self

    def __exit__(self, *_: object) -> None:
        if self._images:
            self.write()

    def add(self, result: LabelledImage, stem: str, file_name: str) -> None:
        """Add an image, and write its picture to ``panoptic/STEM.png``. Segments are numbered as labels are."""
        found = result.label_map
        number = len(self._images) + 1
        segments = []
        for value in np.unique(found[found > 0]):
            mask = found == value
            left, top, right, bottom = (int(side) for side in mask_bounds(mask))
            segments.append(
                {
                    "id": int(value),
                    "category_id": int(value),
                    "area": int(mask.sum()),
                    "bbox": [left, top, right - left, bottom - top],
                    "iscrowd": 0,
                }
            )
        coded = np.stack([found % 256, found // 256 % 256, found // 65536], axis=-1).astype(np.uint8)
        make_folder(self.folder / PANOPTIC)
        write_image(self.folder / PANOPTIC / f"{stem}.png", Image.fromarray(coded))
        self._images.append(
            {"id": number, "file_name": file_name, "width": result.image.width, "height": result.image.height}
        )
        self._annotations.append({"image_id": number, "file_name": f"{stem}.png", "segments_info": segments})

    def write(self) -> None:
        """Write panoptic.json."""
        parts = {"images": self._images, "annotations": self._annotations, "categories": self._categories}
        write_json(self.path, parts)
