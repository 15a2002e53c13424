"""What an answer can be written as."""

from __future__ import annotations

from collections.abc import Collection

from seg_zero.errors import InputError

OUTPUTS = ("overlay", "mask", "cutout", "rle")  # files of one answer
KINDS = ("coco", "coco_results", "labelme", "label_studio")  # files of other tools, for all answers together
LABELME_FOLDER = "labelme"  # in the folder of the answers, one file for each image


def check_outputs(outputs: Collection[str], known: Collection[str] = (*OUTPUTS, *KINDS)) -> None:
    """Raises InputError for what is none of ``known``, and if there is nothing."""
    unknown = [one for one in outputs if one not in known]
    if unknown or not outputs:
        fault = f"{unknown[0]!r} is not known" if unknown else "none is named"
        raise InputError(f"outputs: {fault}; choose of {','.join(known)}")
