"""Vectors of the shape: FPFH of points, and its mean over a mask of a growing surface."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.rooms import ROOM

from seg_zero.errors import InputError
from seg_zero.online3d.checkpoint import load_scene, save_scene
from seg_zero.online3d.config import SceneConfig
from seg_zero.online3d.geometry.fpfh import BINS, fpfh, neighbour_pairs, normals
from seg_zero.online3d.scene import OnlineScene
from seg_zero.online3d.synthetic.sequence import SyntheticSequence

RADIUS = 0.2
EYE = np.array([3.0, 2.0, 4.0])
SHAPES = SceneConfig().replaced(
    geometry="fpfh", geo_radius=0.2, few_pixel=40, voxel_size=0.05, query_radius=0.06, mask_weight_threshold=2
)


def described(points: np.ndarray, eye: np.ndarray = EYE) -> np.ndarray:
    pairs = neighbour_pairs(points, RADIUS)
    return fpfh(points, normals(points, pairs, np.broadcast_to(eye, points.shape)), pairs)


def two_walls(count: int = 1500) -> np.ndarray:
    """Points on the planes z = 0 and x = 0 of a unit cube, which meet in an edge."""
    points = np.random.default_rng(0).uniform(0, 1, (count, 3))
    points[: count // 2, 2] = 0
    points[count // 2 :, 0] = 0
    return points


def test_features_do_not_change_when_points_and_camera_turn() -> None:
    rng = np.random.default_rng(1)
    ball = rng.standard_normal((500, 3))
    points = np.concatenate([two_walls(), 0.5 * ball / np.linalg.norm(ball, axis=1, keepdims=True) + 1])
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    turn[:, 0] *= np.linalg.det(turn)
    move = np.array([5.0, -3.0, 2.0])
    assert np.abs(described(points @ turn.T + move, turn @ EYE + move) - described(points)).max() < 1e-5


def test_a_plane_has_right_angles_only_and_an_edge_others() -> None:
    points = two_walls()
    found = described(points)
    assert np.allclose(found.reshape(-1, 3, BINS).sum(2), 2)
    inside = (points[:, 0] > 3 * RADIUS) & (points[:, 2] == 0)
    flat = np.zeros(3 * BINS)
    flat[BINS // 2 :: BINS] = 2  # the middle bin of each angle: no turn between two normals
    assert inside.sum() > 100 and np.allclose(found[inside], flat)
    edge = (points[:, 0] < RADIUS / 4) & (points[:, 2] == 0)
    assert (found[edge] @ flat / np.linalg.norm(found[edge], axis=1) / np.linalg.norm(flat)).max() < 0.95


@pytest.mark.parametrize("count", [0, 1, 2])
def test_points_without_a_plane_through_them_have_no_feature(count: int) -> None:
    points = np.linspace(0, 0.1, 3)[:count, None] * np.ones(3)
    assert described(points).shape == (count, 3 * BINS) and not described(points).any()


def test_a_surface_that_grows_has_the_features_of_the_whole_one(tmp_path: Path) -> None:
    scene = OnlineScene(SHAPES)
    for frame, masks in SyntheticSequence(ROOM, 8, 120, 90, turns=0.2):
        scene.add(frame, masks)
    scene.finish()
    save_scene(scene, tmp_path / "state.npz", {})
    again = OnlineScene(SHAPES)
    load_scene(again, tmp_path / "state.npz")  # computes everything at once
    vectors = [mask.geometric for mask in scene.bank.live.values()]
    assert scene.shapes is not None and again.shapes is not None and sum(one is not None for one in vectors) > 4
    for mask in scene.bank.live.values():
        step_by_step, at_once = scene.shapes(mask.voxels), again.shapes(mask.voxels)
        assert (step_by_step is None) == (at_once is None)
        assert step_by_step is None or at_once is None or np.allclose(step_by_step, at_once, atol=1e-3)
    assert scene.shapes(np.zeros(0, dtype=np.int32)) is None


def test_released_rules_without_a_shape_are_refused(tmp_path: Path) -> None:
    from seg_zero.online3d.inputs.loaders.layouts import open_sequence
    from seg_zero.online3d.scan import settings_of
    from seg_zero.online3d.synthetic.files import write_sequence

    write_sequence(SyntheticSequence(ROOM, 1, 32, 24), tmp_path / "room")
    sequence = open_sequence(tmp_path / "room", None)
    with pytest.raises(InputError, match="set geometry=fpfh"):
        settings_of(sequence, ["compat=released"])
    assert settings_of(sequence, ["compat=released", "geometry=fpfh"]).geometry == "fpfh"
