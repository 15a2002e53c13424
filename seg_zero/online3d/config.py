"""Every threshold of the method in one place, under the names of the original's configuration files.

The method is that of "Online zero-shot 3D instance segmentation by voxel hashing" (OnlineAnySeg, arXiv 2503.01309).
Numbers that the original has only in its code carry names of our own; docs/online3d.md lists all of them.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from seg_zero.command_line import did_you_mean
from seg_zero.errors import InputError

COMPATIBLE = ("ours", "released")
RULES = ("fixed", "adaptive")
GEOMETRIES = ("none", "fpfh")
_CHOICES = {"compat": COMPATIBLE, "rule": RULES, "geometry": GEOMETRIES}
_POSITIVE = {"voxel_size", "depth_far", "seg_add_interval", "merge_kf_interval", "removal_key_frames", "geo_radius"}


@dataclass(frozen=True)
class SceneConfig:
    """Settings of an online scene. Lengths are in metres; fractions are from 0 to 1.

    compat: "ours", or "released", which keeps what the published code does differently and which changes its results
    (docs/online3d.md, Differences).
    rule: "fixed" compares features by ``seman_min_value``, "adaptive" by what the scene shows of its encoder
    (:mod:`seg_zero.online3d.calibration`).
    geometry: "fpfh" compares shapes too (:mod:`seg_zero.online3d.geometry`), "none" does not.
    """

    compat: str = "ours"
    # Geometry.
    voxel_size: float = 0.025
    depth_near: float = 0.1
    depth_far: float = 5.0
    # Frames: every how many frames is a key frame, and after how many key frames masks are merged.
    seg_add_interval: int = 10
    merge_kf_interval: int = 5
    # From a mask to voxels.
    few_pixel: int = 400
    few_voxel: int = 20
    cluster_min: int = 4  # occupied voxels around one, itself included, that make it the inside of a cluster
    outlier_neighbours: int = 20
    outlier_sigma: float = 2.0
    query_radius: float = 0.03
    coverage: float = 0.3
    min_mask_voxels: int = 50  # a mask needs more than these
    # Containment of one mask in another, as far as both are in view.
    visible: float = 0.2
    visible_min_overlap: int = 500
    contain_min: float = 0.025
    # Merging.
    rule: str = "fixed"
    seman_min_value: float = 0.6
    sim_merge_thresh: float = 2.3
    merge_overlap_thresh: float = 0.4
    containing_ratio: float = 0.8
    contained_ratio: float = 0.3
    merge_supporter_num: int = 5
    merge_contain_ratio: float = 0.8
    merge_contain_iter_num: int = 10
    mask_weight_threshold: int = 5
    removal_key_frames: int = 20
    geometry: str = "none"
    geo_min_points: int = 50
    geo_radius: float = 0.1
    # Instances.
    min_hits: int = 3  # key frames that must have seen a voxel before it is part of the surface
    min_surface_points: int = 25
    instance_eps: float = 0.1
    min_instance_points: int = 200

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if choices := _CHOICES.get(field.name):
                if value not in choices:
                    raise InputError(f"{field.name}={value!r} is unknown; choose one of {', '.join(choices)}")
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
                raise InputError(f"{field.name}={value!r} is not a number")
            if isinstance(field.default, int) and not isinstance(value, int):
                raise InputError(f"{field.name}={value!r} is not a whole number; the default is {field.default}")
            if value < 0 or (value == 0 and field.name in _POSITIVE):
                raise InputError(f"{field.name}={value} is too small; the default is {field.default}")
        if self.depth_near >= self.depth_far:
            raise InputError(f"depth_near={self.depth_near} is not below depth_far={self.depth_far}")
        if self.released and self.adaptive:
            raise InputError("rule='adaptive' is not part of compat='released'; choose one of them")

    @property
    def released(self) -> bool:
        return self.compat == "released"

    @property
    def adaptive(self) -> bool:
        return self.rule == "adaptive"

    def replaced(self, **values: Any) -> SceneConfig:
        """The same settings with other values. Raises InputError for unknown names and values out of range."""
        known = [field.name for field in dataclasses.fields(self)]
        for name in values:
            if name not in known:
                raise InputError(f"unknown setting {name!r}{did_you_mean(name, known) or '; see docs/online3d.md'}")
        return dataclasses.replace(self, **values)

    @classmethod
    def parse(cls, settings: list[str], start: SceneConfig | None = None) -> SceneConfig:
        """``name=value`` words, such as those of ``--set``, on top of ``start`` or the defaults."""
        values: dict[str, Any] = {}
        for word in settings:
            name, equals, text = word.partition("=")
            if not equals:
                raise InputError(f"setting {word!r} has no value; write name=value")
            try:
                values[name] = text if name in _CHOICES else json.loads(text)
            except json.JSONDecodeError as error:
                raise InputError(f"setting {word!r}: {text!r} is not a number") from error
        return (start or cls()).replaced(**values)
