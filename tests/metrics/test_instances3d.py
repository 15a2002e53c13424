"""AP of 3D instances: values of the original's evaluation, and cases made by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from helpers.golden import load_golden

from seg_zero.errors import InputError
from seg_zero.metrics.instances3d import OVERLAPS, InstanceAP, map_to_truth


@pytest.mark.parametrize("number", [1, 2, 3])
def test_values_of_the_original(number: int) -> None:
    case = load_golden("online3d", f"ap_{number}")
    shards = []
    for scene in range(int(case["n_scenes"])):
        part = {key.partition("_")[2]: value for key, value in case.items() if key.startswith(f"s{scene}_")}
        mapped = map_to_truth(part["gt_points"], part["recon_points"], part["pred_masks"], float(case["max_distance"]))
        assert (mapped.nearest == part["corr"]).all()
        assert mapped.kept.tolist() == part["kept_after_mapping"].tolist()
        assert (mapped.masks == part["mapped_masks"]).all()
        metric = InstanceAP(case["valid_class_ids"], min_vertices=int(case["min_verts"]))
        metric.add(mapped.masks[mapped.kept], part["conf"][mapped.kept], part["gt_ids"])
        shards.append(metric)
    metric = shards[0]
    for other in shards[1:]:
        metric.merge(other)
    for overlap, value in zip(case["overlaps"], case["ap_per_overlap"], strict=True):
        assert metric.at(float(overlap))[1] == pytest.approx(float(value), abs=1e-6)
    assert metric.result() == pytest.approx({key: float(case[key]) for key in ("AP", "AP50", "AP25")}, abs=1e-6)


def truth_of(*sizes: int) -> np.ndarray:
    """Instances 1001, 2001, ... of these sizes, one after the other."""
    return np.repeat(1000 * (np.arange(len(sizes)) + 1) + 1, sizes)


def mask(truth: np.ndarray, start: int, stop: int) -> np.ndarray:
    inside = np.zeros(len(truth), dtype=bool)
    inside[start:stop] = True
    return inside


def score(truth: np.ndarray, *masks: tuple[int, int], **settings: Any) -> dict[str, float]:
    metric = InstanceAP(**settings)
    found = np.stack([mask(truth, *one) for one in masks]) if masks else np.zeros((0, len(truth)), dtype=bool)
    metric.add(found, np.ones(len(masks)), truth)
    return metric.result()


def test_exact_instances_are_perfect() -> None:
    assert score(truth_of(200, 300), (0, 200), (200, 500)) == {"AP": 1.0, "AP50": 1.0, "AP25": 1.0}


def test_no_prediction_is_zero_and_no_truth_is_no_number() -> None:
    assert score(truth_of(200)) == {"AP": 0.0, "AP50": 0.0, "AP25": 0.0}
    assert all(math.isnan(value) for value in score(np.zeros(200, dtype=int), (0, 150)).values())


@pytest.mark.parametrize(
    ("name", "masks", "ap25"),
    [
        ("one of two", [(0, 200)], 0.5),
        ("found twice", [(0, 200), (0, 200), (200, 400)], 1.0 * (2 / 3 + 1) / 2),
        ("too small to count", [(0, 200), (200, 400), (0, 99)], 1.0),
        ("in no instance", [(0, 200), (200, 400), (400, 600)], 1.0),  # void excuses it
        ("half in void", [(0, 200), (200, 400), (300, 600)], 1.0),
        ("over both", [(0, 400)], 0.5),
    ],
)
def test_rules(name: str, masks: list[tuple[int, int]], ap25: float) -> None:
    truth = np.concatenate([truth_of(200, 200), np.zeros(200, dtype=int)])
    assert score(truth, *masks)["AP25"] == pytest.approx(ap25), name


def test_overlap_must_be_greater_than_the_limit() -> None:
    assert score(truth_of(400), (0, 200))["AP50"] == 0.0  # an IoU of exactly 0.5
    assert score(truth_of(400), (0, 201))["AP50"] == 1.0


def test_small_instances_are_no_miss_and_excuse_what_found_them() -> None:
    truth = np.concatenate([truth_of(200), np.full(99, 3001), np.zeros(1, dtype=int)])
    assert score(truth, (0, 200), (200, 300)) == {"AP": 1.0, "AP50": 1.0, "AP25": 1.0}


def test_nine_thresholds_end_at_090() -> None:
    assert len(OVERLAPS) == 9
    assert score(truth_of(1000), (0, 910))["AP"] == 1.0  # 0.95 is none of them


@pytest.mark.parametrize(("scores", "expected"), [([0.9, 0.1], 1 / 3), ([0.1, 0.9], 1 / 12)])
def test_higher_scores_come_first(scores: list[float], expected: float) -> None:
    """One of three instances is found, beside one wrong prediction, of a lower or a higher score."""
    truth = truth_of(200, 200, 200)
    metric = InstanceAP()
    metric.add(np.stack([mask(truth, 0, 200), mask(truth, 100, 300)]), scores, truth)
    assert metric.at(0.5)[1] == pytest.approx(expected)


def test_by_class() -> None:
    truth = truth_of(200, 200)
    masks = np.stack([mask(truth, 0, 200), mask(truth, 200, 400)])
    metric = InstanceAP(by_class=True)
    metric.add(masks, np.ones(2), truth, np.array([1, 3]))
    assert metric.by_classes() == {
        1: {"AP": 1.0, "AP50": 1.0, "AP25": 1.0},
        2: {"AP": 0.0, "AP50": 0.0, "AP25": 0.0},
    }
    assert metric.result()["AP50"] == 0.5  # class 3 has no instance


def test_other_classes_are_void() -> None:
    assert score(truth_of(200, 200), (0, 200), (200, 400), valid_classes=[1])["AP"] == 1.0


def test_merged_shards_equal_one_pass() -> None:
    rng = np.random.default_rng(0)
    whole, parts = InstanceAP(), InstanceAP()
    for _ in range(4):
        truth = truth_of(150, 250, 300)
        masks = np.stack([mask(truth, *sorted(rng.integers(0, 700, 2))) for _ in range(6)])
        scores = rng.random(6)
        whole.add(masks, scores, truth)
        shard = InstanceAP()
        shard.add(masks, scores, truth)
        parts.merge(shard)
    assert parts.result() == whole.result()
    with pytest.raises(InputError, match="one setting"):
        whole.merge(InstanceAP(by_class=True))


def test_far_points_map_to_nothing() -> None:
    points = np.array([[0.0, 0, 0], [1, 0, 0]])
    mapped = map_to_truth(points + np.array([[0.1, 0, 0]]), points, np.array([[True, False]]))
    assert mapped.nearest.tolist() == [0, -1] and mapped.masks.tolist() == [[True, False]]


@pytest.mark.parametrize(
    ("masks", "scores", "words"),
    [
        (np.ones((1, 5), dtype=bool), [1], "give bool N x 10"),
        (np.ones((1, 10)), [1], "give bool N x 10"),
        (np.ones((2, 10), dtype=bool), [1], "give one for each"),
    ],
)
def test_shapes_that_do_not_fit_are_named(masks: np.ndarray, scores: list[float], words: str) -> None:
    with pytest.raises(InputError, match=words):
        InstanceAP().add(masks, scores, np.ones(10, dtype=int))
