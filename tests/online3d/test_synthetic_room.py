"""Synthetic rooms: exact depth and ids, masks with faults, and the method measured on them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from seg_zero.online3d.config import SceneConfig
from seg_zero.online3d.evaluation.judge import Judged, judge
from seg_zero.online3d.results.instances import point_masks
from seg_zero.online3d.scene import OnlineScene
from seg_zero.online3d.surface import back_project
from seg_zero.online3d.synthetic.room import Room, Thing, look_at, make_room
from seg_zero.online3d.synthetic.sequence import Faults, SyntheticSequence, faulty_masks

# A quarter of the usual pixels, and voxels of twice the edge.
SMALL = SceneConfig(few_pixel=40, voxel_size=0.05, query_radius=0.06, min_instance_points=30)
SEQUENCE = SyntheticSequence(make_room(3, boxes=5, spheres=3, size=(4.0, 3.2)), frames=30, width=160, height=120)


def test_depth_of_a_box_and_a_sphere_is_exact() -> None:
    box = Thing(3001, (2.0, 0, 0), (0.5, 3, 3), 0.0, (200, 0, 0))
    ball = Thing(4001, (1.0, 0, 0), (0.25, 0.25, 0.25), 0.0, (0, 200, 0))
    intrinsics = np.array([[100.0, 0, 50], [0, 100, 40], [0, 0, 1]])
    view = Room((box, ball), (4, 4)).look(intrinsics, look_at(np.zeros(3), np.array([1.0, 0, 0])), 101, 81)
    assert view.depth[40, 50] == pytest.approx(0.75) and view.ids[40, 50] == 4001
    assert view.depth[40, 0] == pytest.approx(1.5) and view.ids[40, 0] == 3001
    points = back_project(view.depth, intrinsics, look_at(np.zeros(3), np.array([1.0, 0, 0])))
    mine = points[view.ids[view.depth > 0] == 4001]
    assert np.allclose(np.linalg.norm(mine - [1, 0, 0], axis=1), 0.25, atol=1e-6)
    assert view.colour[40, 50, 1] > view.colour[40, 50, 0]  # red, green, blue


def test_a_turned_box_is_met_on_its_sides() -> None:
    box = Thing(3001, (2.0, 0, 0), (0.5, 0.3, 0.4), 0.7, (200, 0, 0))
    intrinsics = np.array([[100.0, 0, 50], [0, 100, 40], [0, 0, 1]])
    pose = look_at(np.array([0, 0.5, 0.2]), np.array([2.0, 0, 0]))
    points = back_project(Room((box,), (4, 4)).look(intrinsics, pose, 101, 81).depth, intrinsics, pose)
    turn = np.array([[np.cos(0.7), np.sin(0.7), 0], [-np.sin(0.7), np.cos(0.7), 0], [0, 0, 1]])
    inside = np.abs((points - [2, 0, 0]) @ turn.T) / [0.5, 0.3, 0.4]
    assert len(points) > 500 and np.allclose(inside.max(1), 1, atol=1e-5)


def test_rooms_are_closed_and_nothing_touches() -> None:
    room = make_room(5)
    assert len(room.things) == 5 + 12 and len({thing.identity for thing in room.things}) == 17
    view = SyntheticSequence(room, width=80, height=60).view(3)
    assert (view.depth > 0).all() and (view.ids > 0).all()


def test_sequences_repeat_and_their_noise_is_relative() -> None:
    frame, again = SEQUENCE.frame(4), SEQUENCE.frame(4)
    assert (frame.depth == again.depth).all() and frame.number == 40
    ratio = frame.depth / SEQUENCE.view(4).depth
    assert ratio.std() == pytest.approx(0.01, rel=0.05) and ratio.mean() == pytest.approx(1, abs=1e-3)
    assert (replace(SEQUENCE, holes=0.3).frame(4).depth == 0).mean() == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize(
    ("faults", "least", "most"),
    [(Faults(), 4, 4), (Faults(split=1), 8, 8), (Faults(merged=1), 1, 2), (Faults(missing=1), 0, 0)],
)
def test_faults_of_masks(faults: Faults, least: int, most: int) -> None:
    ids = np.zeros((40, 40), dtype=np.int32)
    ids[:20, :20], ids[:20, 20:], ids[20:, :20], ids[20:, 20:] = 3001, 3002, 3003, 3004
    labels = faulty_masks(ids, faults, np.random.default_rng(0))
    assert least <= labels.max() <= most
    assert set(np.unique(labels)) - {0} == set(range(1, labels.max() + 1))
    if faults.missing == 0:
        assert (labels > 0).all()


def test_truth_is_the_surface_with_its_instances() -> None:
    truth = replace(SEQUENCE, frames=6).truth(0.05, min_hits=2)
    assert set(np.unique(truth.ids) // 1000) == {1, 2, 3, 4}
    floor = truth.points[truth.ids == 1001]
    assert np.abs(floor[:, 2]).max() < 0.06


def judged(sequence: SyntheticSequence, config: SceneConfig) -> tuple[Judged, OnlineScene]:
    scene = OnlineScene(config)
    for frame, masks in sequence:
        scene.add(frame, masks)
    scene.finish()
    points = scene.surface.points(config.min_hits)
    truth = sequence.truth(config.voxel_size, min_hits=config.min_hits)
    masks = point_masks(scene.instances, points)
    return judge(scene.surface.centres(points), masks, truth.points, truth.ids, min_vertices=30), scene


def test_split_masks_and_noisy_depth_become_whole_objects() -> None:
    """A quarter of the masks cut in two, 1 % depth noise."""
    found, scene = judged(replace(SEQUENCE, faults=Faults(split=0.25)), SMALL)
    assert found.metric.result()["AP50"] >= 0.95
    assert found.true >= 12 and found.predicted <= found.true + 1
    assert len(scene.bank.raw) > 8 * found.true


def test_unmerged_masks_score_low() -> None:
    """The same with merging switched off: the test above can fail."""
    config = SMALL.replaced(sim_merge_thresh=9, merge_supporter_num=10**6, merge_contain_ratio=9)
    found, _ = judged(replace(SEQUENCE, frames=15, faults=Faults(split=0.25)), config.replaced(mask_weight_threshold=1))
    assert found.metric.result()["AP50"] < 0.5
