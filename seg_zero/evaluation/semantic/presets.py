"""The benchmarks by name: classes, layout, resolutions and thresholds of RADSeg's evaluation (arXiv 2511.19704)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seg_zero.data.label_maps import MAX_CLASSES, Listing
from seg_zero.errors import InputError
from seg_zero.evaluation.semantic import class_names, layouts
from seg_zero.metrics.semantic import Rule

RESOLUTIONS = ("low", "mid", "high")
OWN = "folder"


@dataclass(frozen=True)
class Resolution:
    """The (longer, shorter) side of the frame that pictures fill, and the windows in pixels."""

    fit: tuple[int, int]
    crop: int = 336
    stride: int = 224

    def settings(self) -> dict[str, Any]:
        """Fields of :class:`seg_zero.open_vocabulary.settings.Settings`."""
        return {"fit": self.fit, "crop": self.crop, "stride": self.stride}


@dataclass(frozen=True)
class Preset:
    """A data set. places: where it usually lies below a folder of data sets."""

    title: str
    names: tuple[str, ...]
    read: Callable[[Path, int], Listing]
    resolutions: dict[str, Resolution]
    coarse_threshold: float
    places: tuple[str, ...]

    def found_below(self, root: Path) -> Path | None:
        """The root of the data set in a folder of data sets; None if it is not there."""
        return next((root / place for place in self.places if (root / place).is_dir()), None)


def _three(low: int, mid: Resolution, high: Resolution) -> dict[str, Resolution]:
    return {"low": Resolution((2048, low), 224, 112), "mid": mid, "high": high}


_LARGE = Resolution((2016, 672))
PRESETS: dict[str, Preset] = {
    "voc20": Preset(
        "Pascal VOC 2012, 20 classes",
        class_names.VOC20,
        layouts.voc20,
        _three(336, Resolution((2048, 336), stride=112), _LARGE),
        0.20,
        ("VOCdevkit/VOC2012", "VOC2012"),
    ),
    "context59": Preset(
        "Pascal Context, 59 classes",
        class_names.CONTEXT59,
        layouts.context59,
        _three(336, Resolution((4096, 576)), _LARGE),
        0.15,
        ("VOCdevkit/VOC2010", "VOC2010"),
    ),
    "ade20k": Preset(
        "ADE20K, 150 classes",
        class_names.ADE20K,
        layouts.ade20k,
        _three(336, Resolution((2048, 576)), _LARGE),
        0.05,
        ("ade/ADEChallengeData2016", "ADEChallengeData2016"),
    ),
    "coco_stuff": Preset(
        "COCO-Stuff 164k, 171 classes",
        class_names.COCO_STUFF,
        layouts.coco_stuff,
        _three(336, Resolution((2048, 448)), Resolution((1334, 896))),
        0.05,
        ("coco_stuff164k",),
    ),
    "cityscapes": Preset(
        "Cityscapes, 19 classes",
        class_names.CITYSCAPES,
        layouts.cityscapes,
        _three(560, Resolution((2048, 688)), Resolution((2688, 1344))),
        0.10,
        ("cityscapes",),
    ),
}


@dataclass(frozen=True)
class LabelSet:
    """A data set that was found: its title, a list of synonyms for each class, its pairs, and what its presets are.

    rule: by which its published numbers are; boundaries: whether boundary IoU belongs to them.
    """

    name: str
    title: str
    labels: tuple[str, ...]
    listing: Listing
    settings: dict[str, Any]
    coarse_threshold: float | None = None
    rule: Rule = "mmseg"
    boundaries: bool = False


def open_set(name: str, root: Path, resolution: str | None = None, labels: Sequence[str] | None = None) -> LabelSet:
    """A data set by name.

    name: one of :data:`PRESETS`, or "folder" for one of one's own, which needs labels. resolution: low, mid (default)
    or high; one's own has none. labels: other words for the classes, with synonyms after commas, in their order.
    Raises InputError for what is not there or does not fit.
    """
    if name == OWN:
        if resolution is not None:
            raise InputError(f"--resolution {resolution} is of the benchmarks; give --crop and --stride for a folder")
        if labels is None:
            raise InputError(f"--dataset {OWN} has no names of classes; give them with --labels")
        if len(labels) > MAX_CLASSES:
            raise InputError(f"{len(labels)} labels are more than a label map of 8 bits can hold, {MAX_CLASSES}")
        return LabelSet(OWN, str(root), tuple(labels), layouts.folder(root, len(labels)), {})
    if name not in PRESETS:
        raise InputError(f"data set {name!r} is unknown; choose one of {', '.join(PRESETS)}, {OWN}")
    preset = PRESETS[name]
    if labels is not None and len(labels) != len(preset.names):
        raise InputError(
            f"{name} has {len(preset.names)} classes, and there are {len(labels)} labels; give one for each"
        )
    chosen = preset.resolutions[resolution or "mid"]
    words = tuple(labels or preset.names)
    title = f"{preset.title}, {resolution or 'mid'} resolution"
    listing = preset.read(root, len(preset.names))
    return LabelSet(name, title, words, listing, chosen.settings(), preset.coarse_threshold)
