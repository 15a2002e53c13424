"""The mask bank: queries, containment, merging, ageing, and how its cost grows."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from seg_zero.online3d.bank import MaskBank, NewMask
from seg_zero.online3d.claims import Claims
from seg_zero.online3d.config import SceneConfig
from seg_zero.online3d.scene import OnlineScene
from seg_zero.online3d.table import VoxelTable
from seg_zero.online3d.visibility import Visibility, frame_bits, frames_of, union_of
from seg_zero.online3d.voxels import pack

OURS = SceneConfig()


def block(start: int, length: int = 100) -> np.ndarray:
    return np.arange(start, start + length, dtype=np.int32)


def random_sets(rng: np.random.Generator, count: int, voxels: int) -> list[np.ndarray]:
    return [np.flatnonzero(rng.random(voxels) < rng.uniform(0.1, 0.5)).astype(np.int32) for _ in range(count)]


def test_overlaps_are_those_of_all_pairs_after_merges_and_removals() -> None:
    rng = np.random.default_rng(0)
    sets = random_sets(rng, 40, 300)
    table, live = VoxelTable(), {}
    for voxels in sets:
        live[table.add(voxels)] = set(voxels.tolist())
    for _ in range(12):
        keeper, *others = (int(name) for name in rng.choice(list(live), 3, replace=False))
        table.union(keeper, others)
        live[keeper] = live[keeper].union(*(live.pop(name) for name in others))
        gone = int(rng.choice(list(live)))
        table.remove(gone)
        del live[gone]
        query = rng.permutation(300)[:120].astype(np.int32)
        names, counts = table.overlaps(query)
        wanted = {name: len(voxels & set(query.tolist())) for name, voxels in live.items()}
        assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == {k: v for k, v in wanted.items() if v}


def test_lists_lose_what_became_a_duplicate() -> None:
    table = VoxelTable()
    names = [table.add(block(0)) for _ in range(50)]
    table.union(names[0], names[1:])
    table.overlaps(block(0))
    before = table.work
    table.overlaps(block(0))
    assert table.work - before == 200  # 100 voxels with one entry each


def test_visibility_is_that_of_a_dense_matrix() -> None:
    rng = np.random.default_rng(1)
    dense = rng.random((500, 200)) < 0.1
    seen = Visibility()
    for row in range(200):
        seen.record(row, np.flatnonzero(dense[:, row]).astype(np.int32))
    sets = [rng.choice(200, size, replace=False) for size in (1, 5, 80)]
    bits = [union_of([frame_bits(int(row)) for row in rows]) for rows in sets]
    voxels = rng.permutation(500)[:300].astype(np.int32)
    wanted = [int(dense[voxels][:, rows].any(1).sum()) for rows in sets]
    assert seen.count(voxels, bits).tolist() == wanted
    assert [frames_of(one).tolist() for one in bits] == [sorted(rows.tolist()) for rows in sets]


def test_masks_of_one_frame_give_up_the_voxels_that_several_claim() -> None:
    bank = MaskBank(OURS)
    first, second, third = bank.add([NewMask(block(0)), NewMask(block(80)), NewMask(block(500, 50))])
    assert (first, second, third) == (0, 1, -1)  # exactly 50 voxels are too few
    assert [len(bank.live[name].voxels) for name in (first, second)] == [80, 80]
    assert bank.contains == {0: {}, 1: {}}


def random_frames(seed: int, frames: int, objects: int = 12) -> list[list[NewMask]]:
    """Views of objects on a line of voxels: each sees a part, some are cut in two."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(frames):
        masks = []
        for thing in rng.permutation(objects)[: objects // 2]:
            start, length = int(thing) * 400 + int(rng.integers(0, 60)), int(rng.integers(150, 300))
            cut = length // 2 if rng.random() < 0.25 else 0
            parts = [(start, cut), (start + cut, length - cut)] if cut else [(start, length)]
            masks += [NewMask(block(*part), len(masks) + 1) for part in parts]
        out.append(masks)
    return out


def test_containment_kept_up_to_date_equals_that_computed_anew() -> None:
    bank = MaskBank(OURS.replaced(visible_min_overlap=50))
    for number, masks in enumerate(random_frames(2, 23)):
        bank.add(masks)
        if number % 5 == 4:
            bank.update()
    assert bank.events > 2 and any(mask.weight > 5 for mask in bank.live.values())
    kept = bank.contains
    anew = {name: bank._compare_merged(name) for name in bank.live}
    compared = 0
    for name, others in anew.items():
        for other, (inside, around) in others.items():
            if bank.live[name].last_row == bank.live[other].last_row == bank.rows - 1 and other not in kept[name]:
                continue  # masks of the last frame are not compared with each other
            assert kept[name].get(other, 0) == pytest.approx(inside)
            assert kept[other].get(name, 0) == pytest.approx(around)
            compared += 1
    assert compared > 10


def test_split_objects_come_together_without_any_features() -> None:
    bank = MaskBank(OURS)
    for number, masks in enumerate(random_frames(3, 60)):
        bank.add(masks)
        if number % 5 == 4:
            bank.update()
    whole = [bank.live[name] for name in bank.valid()]
    assert len(whole) == 12
    assert all((mask.voxels // 400 == mask.voxels[0] // 400).all() for mask in whole)


def similar_masks(compat: str) -> MaskBank:
    bank = MaskBank(OURS.replaced(compat=compat))
    for _ in range(5):
        bank.add([NewMask(block(0, 300))])
    bank.update()
    return bank


def test_masks_without_geometry_merge_but_not_as_released() -> None:
    assert [mask.weight for mask in similar_masks("ours").live.values()] == [5]
    assert [mask.weight for mask in similar_masks("released").live.values()] == [1] * 5


@pytest.mark.parametrize(("cosine", "weights"), [(1.0, [2]), (0.0, [1, 1])])
def test_the_terms_that_exist_decide(cosine: float, weights: list[int]) -> None:
    """Overlap 0.8 alone would do (above 2.3 / 3); a feature that contradicts it prevents the merge."""
    bank = MaskBank(OURS)
    bank.add([NewMask(block(0, 300), semantic=np.array([1.0, 0.0]))])
    bank.add([NewMask(block(60, 300), semantic=np.array([cosine, 1 - cosine]))])
    bank.visibility.record(1, block(0, 400))
    bank.update()
    assert [mask.weight for mask in bank.live.values()] == weights


def test_a_part_of_a_part_goes_into_the_whole() -> None:
    bank = MaskBank(OURS)
    for _ in range(4):
        bank.add([NewMask(block(0, 1000))])
        bank.add([NewMask(block(0, 400))])
        bank.add([NewMask(block(0, 150))])
    bank.update()
    assert [(len(mask.voxels), mask.weight) for mask in bank.live.values()] == [(1000, 12)]


def test_things_that_touch_stay_two() -> None:
    bank = MaskBank(OURS)
    for shift in range(10):
        bank.add([NewMask(block(0, 300 + shift)), NewMask(block(300, 300))])
        bank.update()
    assert sorted(mask.weight for mask in bank.live.values()) == [10, 10]


def test_what_nothing_confirms_goes_after_twenty_key_frames() -> None:
    bank = MaskBank(OURS)
    lonely = bank.add([NewMask(block(5000))])[0]
    kept = []
    for _ in range(25):
        bank.add([NewMask(block(0, 300))])
        bank.update()
        kept.append(lonely in bank.live)
    assert kept.index(False) == 19 and not any(kept[19:])
    assert bank.table.live_of(np.array([lonely])).tolist() == [-1] and bank.removed == 1
    assert bank.table.overlaps(block(5000))[0].tolist() == []


def test_there_is_no_capacity() -> None:
    bank = MaskBank(OURS)
    bank.add([NewMask(block(200 * i), i) for i in range(3000)])  # the original stops at 2,500
    assert len(bank.live) == 3000


def work_of_last_frame(places: int, rounds: int) -> tuple[int, int]:
    """Masks ever entered, and steps of the last key frame of a camera that sees 4 places of ``places`` at a time."""
    bank = MaskBank(OURS)
    before = 0
    for row in range(places * rounds // 4):
        seen = [(4 * row + i) % places for i in range(4)]
        before = bank.work
        bank.add([NewMask(block(1000 * place, 400), place) for place in seen])
        after = bank.work
        if row % 5 == 4:
            bank.update()
    return bank.table.raw, after - before


@pytest.mark.parametrize(
    ("few", "many"), [((40, 5), (400, 5)), ((40, 5), (40, 50))], ids=["a larger scene", "a longer stay"]
)
def test_steps_of_a_key_frame_do_not_grow_with_the_masks(few: tuple[int, int], many: tuple[int, int]) -> None:
    masks, steps = work_of_last_frame(*few)
    more_masks, more_steps = work_of_last_frame(*many)
    assert more_masks == 10 * masks
    assert steps > 1600  # at least every voxel of the frame
    assert more_steps <= 1.2 * steps


def test_memory_of_visibility_grows_with_what_is_seen() -> None:
    """A camera that moves on: what lies behind it takes no more memory, however long the run."""
    bank = MaskBank(OURS)
    sizes = {}
    for row in range(1024):
        bank.add([NewMask(block(300 * row, 900), 1)])
        sizes[row + 1] = bank.visibility.nbytes
    dense = 300 * 1024 * 1024 * 4
    assert sizes[1024] <= 2.2 * sizes[512]
    assert sizes[1024] < dense / 50


def test_a_point_that_several_hold_goes_to_the_smallest_instance_except_as_released() -> None:
    for compat, sizes in (("ours", [768, 256]), ("released", [1024, 256])):
        scene = OnlineScene(OURS.replaced(compat=compat, min_hits=0, merge_kf_interval=99))
        keys = np.stack(np.meshgrid(np.arange(32), np.arange(32), [0], indexing="ij"), axis=-1).reshape(-1, 3)
        numbers = scene.surface.index.add(pack(keys))
        for voxels in (numbers, numbers, numbers[:256], numbers[:256]):
            scene.numbers.append(len(scene.numbers))
            scene.bank.add([NewMask(voxels)])
        for pair in ([0, 1], [2, 3]):
            scene.bank._join(pair)
        found = scene.instances
        assert [len(one.points) for one in found] == sizes and [one.weight for one in found] == [2, 2]
        assert [one.frames.tolist() for one in found] == [[0, 1], [2, 3]]


def test_claims_of_a_frame_are_own_voxels_and_boundaries() -> None:
    claims = Claims()
    for masks in ([[9, 2, 5], [5, 7], [2, 5, 1]], [[2000, 3]], [[], [4]], []):
        arrays = [np.array(mask, dtype=np.int32) for mask in masks]
        counts = Counter(voxel for mask in masks for voxel in mask)
        found = claims.of(arrays)
        assert found.covered.tolist() == sorted(counts)
        assert [own.tolist() for own in found.own] == [[v for v in mask if counts[v] == 1] for mask in masks]
        assert found.boundary.tolist() == sorted(v for v in counts if counts[v] > 1)
