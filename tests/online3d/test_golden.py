"""Values of the original's code, computed once on made-up input (its defects included, with compat=released)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.golden import load_golden
from scipy import sparse

from seg_zero.online3d import merging
from seg_zero.online3d.bank import LiveMask, MaskBank, NewMask
from seg_zero.online3d.config import SceneConfig
from seg_zero.online3d.merging import Vectors
from seg_zero.online3d.visibility import frame_bits, union_of

RELEASED = SceneConfig(compat="released")


def without_diagonal(dense: np.ndarray) -> sparse.csr_array:
    return sparse.csr_array(dense.astype(np.float64) * (1 - np.eye(len(dense))))


def split(values: np.ndarray, sizes: np.ndarray) -> list[np.ndarray]:
    return np.split(values.astype(np.int32), np.cumsum(sizes)[:-1])


@pytest.mark.parametrize("number", [1, 2])
def test_containment_of_live_masks(number: int) -> None:
    case = load_golden("online3d", f"containment_{number}")
    config = RELEASED.replaced(
        visible=float(case["visible_ratio"]),
        visible_min_overlap=int(case["visible_min"]),
        contain_min=float(case["contain_min"]),
    )
    bank = MaskBank(config)
    bank.rows = case["labels"].shape[1]
    for row in range(bank.rows):
        bank.visibility.record(row, np.flatnonzero(case["labels"][:, row]).astype(np.int32))
    raw = [bank.table.add(voxels) for voxels in split(case["raw_voxels"], case["raw_sizes"])]
    live = case["raw_to_live"]
    whole = split(case["mask_voxels"], case["mask_sizes"])
    for place, voxels in enumerate(whole):
        members = np.flatnonzero(live == place).tolist()
        bank.table.union(members[0], members[1:])
        frames = union_of([frame_bits(row) for row in np.flatnonzero(case["frame_rows"][place])])
        bank.live[members[0]] = LiveMask(voxels, members, frames, len(members), 0)
        bank.contains[members[0]] = {}
    assert list(bank.live) == [raw[np.flatnonzero(live == place)[0]] for place in range(len(whole))]
    for name in bank.live:
        bank._relate(name, bank._compare_merged(name))
    found = bank.containment().toarray() + np.eye(len(whole))
    assert np.allclose(found, case["containment_row_contains_col"], atol=1e-6)


def test_semantic_score() -> None:
    case = load_golden("online3d", "semantic_rescale")
    for number in range(3):
        least, most, curvature = case[f"params_{number}"]
        assert np.allclose(merging.semantic_score(case["s"], least, most, curvature), case[f"f_{number}"], atol=1e-6)


@pytest.mark.parametrize("number", [1, 2])
def test_similarity_is_the_sum_of_three_terms(number: int) -> None:
    case = load_golden("online3d", f"similarity_{number}")
    count = len(case["containment"])
    everything = np.ones(count, dtype=bool)
    pairs = merging.pairs_of(without_diagonal(case["containment"]))
    vectors = [Vectors(case[name], everything) for name in ("semantic", "geometric")]
    values, exist = merging.terms(pairs, *vectors, RELEASED)
    at = pairs.first, pairs.second
    for column, name in enumerate(("iou_part", "sem_part", "geo_part")):
        assert np.allclose(values[:, column], case[name][at], atol=1e-5), name
    assert np.allclose(merging.similarity(values, exist), case["total"][at], atol=1e-5)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_merge_rules(number: int) -> None:
    case = load_golden("online3d", f"merge_rules_{number}")
    count = len(case["weights"])
    containment, has_geo = without_diagonal(case["containment"]), case["has_geo"] > 0
    pairs = merging.pairs_of(containment)
    semantic = Vectors(case["semantic"], np.ones(count, dtype=bool))
    values, exist = merging.terms(pairs, semantic, Vectors(case["geometric"], has_geo), RELEASED)
    alike = merging.similarity_rule(pairs, merging.similarity(values, exist | True), RELEASED)
    expected = case["similarity_rule_lower"][pairs.first, pairs.second]
    known = has_geo[pairs.first] & has_geo[pairs.second]  # a vector that is not there has no similarity to compare
    assert (alike[known] == expected[known]).all() and expected.sum() > 0
    scores = merging.supporter_scores(containment, case["weights"], RELEASED)
    lower = np.tril(scores.toarray(), -1)
    assert np.allclose(lower, case["supporter_score_lower"])
    first, second = merging.supported_pairs(scores, RELEASED)
    joined = np.zeros((count, count), dtype=bool)
    joined[first, second] = True
    joined[pairs.first[alike], pairs.second[alike]] = True
    joined &= has_geo[:, None] & has_geo[None]
    assert (joined == case["merge_matrix_lower"]).all()
    assert (merging.components(count, *np.nonzero(joined)) == case["components"]).all()
    valid = (case["weights"] >= merging.least_weight(int(case["merge_events"]), RELEASED)) & has_geo
    outer, inner = merging.contained_pairs(containment, valid, RELEASED)
    inside = np.zeros((count, count), dtype=bool)
    inside[outer, inner] = True
    assert (inside == case["containment_merge_row_contains_col"]).all()
    assert (merging.components(count, outer, inner) == case["containment_components"]).all()


@pytest.mark.parametrize("number", [1, 2, 3])
def test_whole_online_runs(number: int) -> None:
    """Every containment matrix, merge, weight, age, vector and removal of runs over 10 to 25 key frames."""
    case = load_golden("online3d", f"online_{number}")
    table, least = case["geo_table"], int(case["geo_min_voxels"])

    def geometry(voxels: np.ndarray) -> np.ndarray | None:
        return table[voxels].mean(0) if len(voxels) >= least else None

    bank = MaskBank(RELEASED, geometry)
    rows = case["in_frame_mask_rows"]
    masks = split(case["in_voxels"], rows[:, 2])
    for row in range(int(case["n_frames"])):
        frame = row * 10
        mine = np.flatnonzero(rows[:, 0] == frame)
        bank.add([NewMask(masks[i], int(rows[i, 1]), case["in_semantic"][i]) for i in mine])
        check_state(bank, case, f"f{frame}")
        if frame in case["updates"]:
            bank.update()
            check_state(bank, case, f"u{frame}")
    assert [[one.row * 10, one.number] for one in bank.raw] == case["raw_ids"].tolist()
    assert [len(mask.voxels) for mask in bank.live.values()] == case["final_sizes"].tolist()
    assert (np.concatenate([mask.voxels for mask in bank.live.values()]) == case["final_voxels"]).all()


def check_state(bank: MaskBank, case: dict[str, Any], stage: str) -> None:
    place = {number: position for position, number in enumerate(bank.live)} | {-1: -1}
    found = bank.containment().toarray() + np.eye(len(bank.live))
    assert np.allclose(found, case[f"{stage}_containment"], atol=1e-6), stage
    live = bank.table.live_of(np.arange(bank.table.raw)).tolist()
    assert [place[number] for number in live] == case[f"{stage}_raw_table"].tolist(), stage
    if stage[0] == "f":
        return
    masks = list(bank.live.values())
    assert [mask.weight for mask in masks] == case[f"{stage}_weights"].tolist(), stage
    assert [mask.last_row * 10 for mask in masks] == case[f"{stage}_last_frame"].tolist(), stage
    assert [len(mask.voxels) for mask in masks] == case[f"{stage}_sizes"].tolist(), stage
    assert bank.events == int(case[f"{stage}_merge_events"]), stage
    assert np.allclose([mask.semantic for mask in masks], case[f"{stage}_semantic_sum"], atol=1e-5), stage
    for mask, exists, vector in zip(masks, case[f"{stage}_has_geo"], case[f"{stage}_geo"], strict=True):
        assert (mask.geometric is not None) == bool(exists), stage
        assert mask.geometric is None or np.allclose(mask.geometric, vector, atol=1e-5), stage
