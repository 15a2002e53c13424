"""The files of an answer: overlay, mask, cut-out and COCO RLE."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from seg_zero.errors import InputError
from seg_zero.files import write_image, write_text
from seg_zero.visualize import cutout, mask_image

if TYPE_CHECKING:
    from seg_zero.results.result import SegmentationResult

OVERLAY_SIDE = 448  # pixels; smaller pictures are enlarged, so that lines stay thin against them


def output_pattern(stem: str) -> re.Pattern[str]:
    """The names that :func:`write_files` may give beside the overlay, for a stem."""
    return re.compile(re.escape(stem) + r"_((mask|cutout)(_\d+)?\.png|rle\.json)")


def write_files(
    overlay_path: Path,
    stem: str,
    result: SegmentationResult,
    outputs: Collection[str],
    *,
    per_object: bool,
    show_prompts: bool,
) -> dict[str, str]:
    """Write those of :data:`seg_zero.results.outputs.OUTPUTS` that ``outputs`` names; returns the paths by output.

    All but the overlay lie beside it as STEM_mask.png, STEM_cutout.png, STEM_rle.json, with ``per_object`` also
    STEM_mask_1.png, STEM_cutout_1.png and so on; rle holds :meth:`SegmentationResult.to_dict`. Raises InputError if
    they cannot be written.
    """
    files: dict[str, Path] = {}
    masks = {"": result.mask}
    if per_object:
        masks |= {f"_{number}": item.mask for number, item in enumerate(result.objects, start=1)}
    path = overlay_path
    try:
        if "overlay" in outputs:
            write_image(path, result.overlay(prompts=show_prompts))
            files["overlay"] = path
        for kind in ("mask", "cutout"):
            for ending, mask in masks.items() if kind in outputs else ():
                path = overlay_path.with_name(f"{stem}_{kind}{ending}.png")
                write_image(path, mask_image(mask) if kind == "mask" else cutout(result.image, mask))
                files[kind + ending] = path
        if "rle" in outputs:
            path = overlay_path.with_name(f"{stem}_rle.json")
            write_text(path, result.to_json(per_object=per_object) + "\n")
            files["rle"] = path
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror or error}); name another --output_path") from error
    return {name: str(file) for name, file in files.items()}
