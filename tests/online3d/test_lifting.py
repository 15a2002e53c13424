"""From pixels to voxels: keys, clusters, noise, outliers, coverage."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.golden import load_golden

from seg_zero.errors import InputError
from seg_zero.online3d.config import SceneConfig
from seg_zero.online3d.lifting import Lifter, largest_cluster, not_far
from seg_zero.online3d.surface import Surface, back_project
from seg_zero.online3d.voxels import VoxelIndex, offsets, pack, unpack, voxel_keys

INTRINSICS = np.array([[200.0, 0, 80], [0, 200.0, 60], [0, 0, 1]])
EYE = np.eye(4)


@pytest.mark.parametrize("number", [1, 2])
def test_points_and_keys_are_those_of_the_original(number: int) -> None:
    case = load_golden("online3d", f"backproject_{number}")
    depth = np.where(case["depth"] < case["depth_far"], case["depth"], 0)
    assert ((depth > 0) == (case["valid"] > 0)).all()
    points = back_project(depth, case["K"], case["pose_c2w"])
    assert np.allclose(points, case["points"], atol=1e-6)
    assert (voxel_keys(case["points"], 0.025) == case["voxel_key"]).all()
    surface = Surface(0.025)
    voxels = surface.project(depth, case["K"], case["pose_c2w"])
    same = (surface.index.keys(voxels[depth > 0]) == case["voxel_key"]).all(1)
    assert same.mean() > 0.999  # the points above are rounded to 32 bits, which may carry one over a border


def test_keys_at_borders_and_far_from_the_origin_are_whole_numbers() -> None:
    """Points on lattice planes, where 32-bit block arithmetic goes wrong, with both signs and far away."""
    keys = np.array([[k, -k, 0] for k in (0, 1, 3, 4, 63, 64, 999_999)])
    assert (voxel_keys((keys + 0.5) * 0.025, 0.025) == keys).all()
    assert (unpack(pack(keys)) == keys).all()
    assert len(set(pack(keys).tolist())) == len(keys)
    with pytest.raises(InputError, match="check the poses"):
        pack(np.array([[2_000_000, 0, 0]]))


def test_the_index_numbers_voxels_in_order_and_grows() -> None:
    index = VoxelIndex()
    keys = pack(np.random.default_rng(0).integers(-500, 500, (20_000, 3)))
    numbers = index.add(keys)
    assert (index.add(keys) == numbers).all() and len(index) == len(np.unique(keys))
    assert (index.packed[numbers] == keys).all()
    assert index.find(pack(np.array([[9999, 0, 0]]))).tolist() == [-1]


def test_the_ball_of_the_query_radius() -> None:
    assert len(offsets(0.0, 0.025)) == 1 and len(offsets(0.03, 0.025)) == 7 and len(offsets(0.05, 0.025)) == 33


@pytest.mark.parametrize(("released", "kept"), [(False, [0, 1]), (True, [2, 3, 4])])
def test_noise_is_no_cluster_except_as_released(released: bool, kept: list[int]) -> None:
    assert np.flatnonzero(largest_cluster(np.array([0, 0, -1, -1, -1, 7]), noise_counts=released)).tolist() == kept


def test_all_noise_leaves_nothing() -> None:
    assert not largest_cluster(np.full(5, -1)).any()


def test_a_point_far_from_the_rest_is_an_outlier() -> None:
    grid = np.stack(np.meshgrid(np.arange(10.0), np.arange(10.0), [0.0]), axis=-1).reshape(-1, 3)
    assert np.flatnonzero(~not_far(np.vstack([grid, [[5, 5, 9]]]), 20, 2.0)).tolist() == [100]


def lifted(depth: np.ndarray, labels: np.ndarray, **settings: Any) -> tuple[dict[int, np.ndarray], Lifter]:
    """Keys N x 3 of the voxels of each mask."""
    config = SceneConfig(**({"query_radius": 0.0} | settings))
    surface = Surface(config.voxel_size)
    lifter = Lifter(surface, config)
    found = lifter.lift(surface.project(depth, INTRINSICS, EYE), labels)
    assert all(len(one.voxels) == len(np.unique(one.voxels)) for one in found)
    return {one.number: surface.index.keys(one.voxels) for one in found}, lifter


def wall(distance: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """A wall before the camera, 120 x 160 pixels, with one mask in the middle, 60 x 80."""
    labels = np.zeros((120, 160), dtype=np.int32)
    labels[30:90, 40:120] = 1
    return np.full((120, 160), distance, dtype=np.float32), labels


@pytest.mark.parametrize("compat", ["ours", "released"])
def test_a_mask_on_a_wall_becomes_its_voxels(compat: str) -> None:
    depth, labels = wall(2.01)
    keys = lifted(depth, labels, compat=compat)[0][1]
    assert (keys[:, 2] == 80).all()
    assert 24 * 32 * 0.9 <= len(keys) <= 25 * 33  # 0.6 m x 0.8 m; corners may count as lonely
    assert 6 * len(keys) > len(lifted(depth, labels, compat=compat, query_radius=0.03)[0][1]) > 2.8 * len(keys)


@pytest.mark.parametrize(("compat", "depth_kept"), [("ours", 80), ("released", 160)])
def test_what_shows_through_a_mask_is_left_out(compat: str, depth_kept: int) -> None:
    """As released, the cluster with the most voxels is kept; a background twice as far has four times as many."""
    depth, labels = wall(2.01)
    depth[30:52, 40:120] = 4.01  # the background, over a third of the mask
    depth[60, 60] = 1.0  # one flying pixel
    keys = lifted(depth, labels, compat=compat)[0][1]
    assert (keys[:, 2] == depth_kept).all()


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        ("few pixels with depth", {"few_pixel": 5000}),
        ("few voxels", {"few_voxel": 5000}),
        ("scattered", {"coverage": 1.0}),
    ],
)
def test_dropped_masks_are_counted_by_reason(reason: str, change: dict[str, float]) -> None:
    depth, labels = wall()
    depth[60, 60] = 1.0
    found, lifter = lifted(depth, labels, **change)
    assert found == {} and dict(lifter.dropped) == {reason: 1}


def test_pixels_without_depth_are_no_part_of_a_mask() -> None:
    depth, labels = wall(2.01)
    depth[:, 80:] = 0
    assert (lifted(depth, labels)[0][1][:, 0] < 0).all()


def test_colours_and_hits_of_the_surface() -> None:
    depth, _ = wall()
    surface = Surface(0.025)
    for row, shade in enumerate((100, 200)):
        voxels = surface.project(depth, INTRINSICS, EYE)
        surface.record(row, voxels, np.full((120, 160, 3), [shade, 0, 50], dtype=np.uint8))
    points = surface.points(2)
    assert len(points) == len(surface.index) and len(surface.points(3)) == 0
    assert np.abs(surface.colours(points) - [150, 0, 50]).max() <= 1  # red first
    assert np.abs(surface.centres(points)[:, 2] - 2.0).max() <= 0.0126


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["voxel_size=0"], "voxel_size=0 is too small"),
        (["few_pixel=1.5"], "not a whole number"),
        (["voxel_siz=1"], "did you mean voxel_size"),
        (["coverage"], "write name=value"),
        (["coverage=x"], "'x' is not a number"),
        (["compat=new"], "choose one of ours, released"),
        (["depth_near=9"], "not below depth_far"),
    ],
)
def test_bad_settings_are_named(settings: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        SceneConfig.parse(settings)


def test_settings_are_read() -> None:
    assert SceneConfig.parse(["voxel_size=0.05", "compat=released"]) == SceneConfig("released", voxel_size=0.05)
