"""Metrics by round, against values recorded from SegLLM's evaluation and by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seg_zero.errors import InputError
from seg_zero.masks import mask_bounds
from seg_zero.metrics import MaskMetrics, RoundMetrics, RoundScore, SegLlmMetrics, in_frame, score_round

HERE = Path(__file__).parent


def published(number: int) -> dict[str, Any]:
    return dict(np.load(HERE / f"published_rounds_{number}.npz"))


def scores_of(case: dict[str, Any]) -> list[RoundScore]:
    side = int(case["size"])
    pred, truth = (np.unpackbits(case[name], axis=-1)[..., :side].astype(bool) for name in ("pred", "gt"))
    found = []
    for place, (one, other) in enumerate(zip(pred, truth, strict=True)):
        assert tuple(case["gt_boxes"][place]) == mask_bounds(other)
        box = tuple(float(value) for value in case["pred_boxes"][place])
        found.append(score_round(one, other, box))  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize("number", [1, 2, 3])
def test_sums_by_round_are_those_of_the_published_code(number: int) -> None:
    case = published(number)
    scores = scores_of(case)
    metrics = RoundMetrics(SegLlmMetrics)
    places = iter(range(len(scores)))
    for rounds in case["rounds_per_dialogue"]:
        for one in range(1, rounds + 1):
            metrics.add(one, scores[next(places)])
    for place, score in enumerate(scores):
        assert score.counts.intersection == case["inter"][place] and score.counts.union == case["union"][place]
        assert score.box_iou == pytest.approx(max(case["box_iou"][place], 0.0), abs=1e-5)
    result = metrics.result()
    for first, p50, miou, ciou in case["round_p50_miou_oiou"]:
        name = str(int(first) + 1)
        if name not in result:
            assert (p50, miou, ciou) == (0, 0, 0)
            continue
        found = [result[name][metric] for metric in ("P@0.5", "mIoU", "cIoU")]
        assert found == pytest.approx([p50, miou, ciou], abs=1e-5)
    assert result["all"]["count"] == len(scores)


def test_shards_merge_to_the_whole() -> None:
    scores = scores_of(published(3))
    whole, parts = RoundMetrics(), [RoundMetrics(), RoundMetrics()]
    for place, score in enumerate(scores):
        whole.add(place % 4 + 1, score)
        parts[place % 2].add(place % 4 + 1, score)
    assert parts[1].merge(parts[0]).result() == whole.result()


def test_nothing_found_where_nothing_is_counts_one_and_in_segllms_rule_zero() -> None:
    empty = np.zeros((4, 4), dtype=bool)
    for rule, value in ((MaskMetrics, 1.0), (SegLlmMetrics, 0.0)):
        metrics = RoundMetrics(rule)
        metrics.add(1, score_round(empty, empty))
        assert metrics.result()["1"]["mIoU"] == value
    missed = RoundMetrics()
    missed.add(1, score_round(empty, ~empty))
    missed.add(1, score_round(~empty, ~empty))
    assert missed.result()["all"] == {"cIoU": 0.5, "mIoU": 0.5, "P@0.5": 0.5, "count": 2}


@pytest.mark.parametrize(
    ("shape", "inside"), [((4, 8), (8, 16)), ((8, 4), (16, 8)), ((3, 16), (3, 16)), ((1, 33), (1, 16))]
)
def test_masks_lie_in_the_upper_left_of_the_frame(shape: tuple[int, int], inside: tuple[int, int]) -> None:
    framed = in_frame(np.ones(shape, dtype=bool), 16)
    assert framed.shape == (16, 16)
    assert framed[: inside[0], : inside[1]].all() and framed.sum() == inside[0] * inside[1]


def test_a_box_of_its_own_counts_instead_of_the_masks() -> None:
    mask = np.zeros((10, 10), dtype=bool)
    mask[2:6, 2:6] = True
    assert score_round(mask, mask).box_iou == 1.0
    assert score_round(mask, mask, (2.0, 2.0, 6.0, 4.0)).box_iou == 0.5


def test_impossible_rounds_are_refused() -> None:
    with pytest.raises(InputError, match="no rounds"):
        RoundMetrics().result()
    with pytest.raises(InputError, match="round 0"):
        RoundMetrics().add(0, score_round(np.ones((2, 2), dtype=bool), np.ones((2, 2), dtype=bool)))
    with pytest.raises(InputError, match="resize the prediction"):
        score_round(np.ones((2, 3), dtype=bool), np.ones((2, 2), dtype=bool))
