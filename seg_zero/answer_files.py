"""The files of an answer: overlay, mask, cut-out and COCO RLE."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from seg_zero.errors import InputError
from seg_zero.files import write_image, write_text
from seg_zero.masks import encode_mask
from seg_zero.visualize import cutout, mask_image, overlay

if TYPE_CHECKING:
    from seg_zero.pipeline import SegmentationResult

OVERLAY_SIDE = 448  # pixels; smaller pictures are enlarged, so that lines stay thin against them


def output_pattern(stem: str) -> re.Pattern[str]:
    """The names that :func:`write_files` may give beside the overlay, for a stem."""
    return re.compile(re.escape(stem) + r"_((mask|cutout)(_\d+)?\.png|rle\.json)")


def write_files(
    overlay_path: Path,
    stem: str,
    image: Image.Image,
    result: SegmentationResult,
    record: dict[str, Any],
    outputs: Collection[str],
    *,
    per_object: bool,
    show_prompts: bool,
) -> dict[str, str]:
    """Write what ``outputs`` names (overlay, mask, cutout, rle); returns the paths by output.

    All but the overlay lie beside it as STEM_mask.png, STEM_cutout.png, STEM_rle.json, with ``per_object`` also
    STEM_mask_1.png, STEM_cutout_1.png and so on; rle holds ``record``. Raises InputError if they cannot
    be written.
    """
    files: dict[str, Path] = {}
    masks = {"": result.mask}
    if per_object:
        masks |= {f"_{number}": item.mask for number, item in enumerate(result.objects, start=1)}
    path = overlay_path
    try:
        if "overlay" in outputs:
            shown = result.masks if len(result.texts) == 1 else result.mask[None]
            prompts = result.objects if show_prompts else ()
            write_image(path, overlay(image, shown, prompts, min_side=OVERLAY_SIDE))
            files["overlay"] = path
        for kind in ("mask", "cutout"):
            for ending, mask in masks.items() if kind in outputs else ():
                path = overlay_path.with_name(f"{stem}_{kind}{ending}.png")
                write_image(path, mask_image(mask) if kind == "mask" else cutout(image, mask))
                files[kind + ending] = path
        if "rle" in outputs:
            path = overlay_path.with_name(f"{stem}_rle.json")
            write_text(path, json.dumps(record, ensure_ascii=False) + "\n")
            files["rle"] = path
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror or error}); name another --output_path") from error
    return {name: str(file) for name, file in files.items()}


def record_of(name: str, image: Image.Image, result: SegmentationResult, *, per_object: bool) -> dict[str, Any]:
    """An answer as JSON; ``segmentation`` is COCO RLE of the mask, with ``per_object`` of each object's too.

    Boxes are x1, y1, x2, y2, as the policy wrote them, in pixels of the image.
    """
    objects = []
    for item in result.objects:
        entry: dict[str, Any] = {"box": item.box, "points": item.points, "score": round(item.score, 4)}
        if per_object:
            entry["segmentation"] = encode_mask(item.mask)
        objects.append(entry)
    record = {
        "image": name,
        "width": image.width,
        "height": image.height,
        "question": result.question,
        "thinking": result.thinking,
        "text": result.text,
        "problem": result.problem,
        "objects": objects,
        "area": int(result.mask.sum()),
        "segmentation": encode_mask(result.mask),
    }
    return record if len(result.texts) == 1 else {**record, "texts": result.texts}
