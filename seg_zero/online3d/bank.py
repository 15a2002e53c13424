"""The mask bank: live masks, how much each lies in the others, and how they merge, age and go.

Masks are sets of voxel numbers. Nothing here has a fixed capacity, and nothing is proportional to the number of masks:
containment is kept for pairs that overlap, and a new mask is compared with what its own voxels hold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from seg_zero.online3d import merging
from seg_zero.online3d.calibration import HOLD, Calibration, Levels
from seg_zero.online3d.claims import Claims
from seg_zero.online3d.config import SceneConfig
from seg_zero.online3d.merging import Vectors
from seg_zero.online3d.table import VoxelTable
from seg_zero.online3d.visibility import Visibility, frame_bits, frames_of, union_of

Geometry = Callable[[np.ndarray], "np.ndarray | None"]  # voxel numbers to a vector, None for too few points


@dataclass(frozen=True)
class NewMask:
    """A mask of one frame: voxel numbers (no number twice), its number in the frame, and its feature vector if any."""

    voxels: np.ndarray
    number: int = 0
    semantic: np.ndarray | None = None


@dataclass
class LiveMask:
    """An object so far. Vectors are None where there are none; ``last_row`` is the key frame that last changed it.

    raw: the raw masks it consists of; weight: how many. frames: bits of the key frames of those.
    """

    voxels: np.ndarray
    raw: list[int]
    frames: np.ndarray
    weight: int
    last_row: int
    semantic: np.ndarray | None = None
    geometric: np.ndarray | None = None


@dataclass(frozen=True)
class RawMask:
    """Where a raw mask came from: the key frame's row and the mask's number in it."""

    row: int
    number: int


class MaskBank:
    """State of the association of masks over key frames, which are numbered 0, 1, ... as they come.

    live: live masks by number (that of one of their raw masks), in the order in which they came to be.
    contains: contains[i][j] is the fraction of j inside i; both directions are stored if one is not 0.
    """

    def __init__(self, config: SceneConfig, geometry: Geometry | None = None) -> None:
        self.config = config
        self.geometry = geometry
        self.table = VoxelTable()
        self.visibility = Visibility()
        self.calibration = Calibration()
        self.live: dict[int, LiveMask] = {}
        self.contains: dict[int, dict[int, float]] = {}
        self.raw: list[RawMask] = []
        self._claims = Claims()
        self.rows = 0
        self.events = 0  # updates in which anything was merged
        self.removed = 0

    @property
    def work(self) -> int:
        """Elementary steps of all queries so far: voxels and list entries visited, frame sets compared."""
        return self.table.work + self.visibility.work

    def add(self, masks: Sequence[NewMask]) -> list[int]:
        """Enter the masks of one key frame; returns their numbers, -1 for those that have too few voxels left.

        All masks make their voxels visible in this frame. Voxels that several of them claim are boundaries, and belong
        to none. The rest is compared with the masks of earlier frames only.
        """
        row, config = self.rows, self.config
        self.rows += 1
        claims = self._claims.of([mask.voxels for mask in masks])
        self.visibility.record(row, claims.covered)
        # Own voxels and boundaries are all that is covered, each once: so the lists of each are walked once.
        overlaps = [self.table.overlaps(voxels) for voxels in (*claims.own, claims.boundary)]
        in_view = Counter[int]()
        for others, common in overlaps:
            in_view.update(dict(zip(others.tolist(), common.tolist(), strict=True)))
        kept: list[tuple[int, NewMask, np.ndarray]] = []
        found = []
        for position, (mask, voxels) in enumerate(zip(masks, claims.own, strict=True)):
            if len(voxels) > config.min_mask_voxels:
                kept.append((position, mask, voxels))
                others, common = overlaps[position]
                names = others.tolist()
                found.append(self._relations(voxels, names, common, [in_view[other] for other in names]))
        if config.adaptive:
            self._calibrate([mask.semantic for _, mask, _ in kept], found)
        numbers = [-1] * len(masks)
        for (position, mask, voxels), relations in zip(kept, found, strict=True):
            number = self.table.add(voxels)
            self.raw.append(RawMask(row, mask.number))
            self.live[number] = LiveMask(voxels, [number], frame_bits(row), 1, row, mask.semantic)
            self.contains[number] = {}
            self._relate(number, relations)
            numbers[position] = number
        if self.geometry is not None and not any(mask.geometric is not None for mask in self.live.values()):
            self._refresh_geometry()
        return numbers

    def _calibrate(self, vectors: list[np.ndarray | None], found: list[dict[int, tuple[float, float]]]) -> None:
        """Learn from the masks of one key frame and from what they have in common with earlier ones.

        Only pairs of raw masks count: a merged mask's vector is a mean, and nearer to any other than a single one.
        """
        self.calibration.see_frame([vector for vector in vectors if vector is not None])
        same = []
        for vector, relations in zip(vectors, found, strict=True):
            for other, both in relations.items():
                earlier = self.live[other]
                if earlier.weight == 1 and min(both) > HOLD and vector is not None and earlier.semantic is not None:
                    same.append((vector, earlier.semantic))
        self.calibration.see_same(same)

    @property
    def levels(self) -> Levels | None:
        """What cosines of features mean in this scene, as far as it is known and the rule asks for it."""
        return self.calibration.levels() if self.config.adaptive else None

    def _compare_merged(self, number: int) -> dict[int, tuple[float, float]]:
        """How much of each other live mask lies in this one, which knows several frames, and the reverse."""
        mine = self.live[number]
        others, common = self.table.overlaps(mine.voxels)
        common, others = common[others != number], others[others != number]
        names = others.tolist()
        seen = [int(self.visibility.count(self.live[other].voxels, [mine.frames])[0]) for other in names]
        return self._relations(mine.voxels, names, common, seen)

    def _relations(
        self, voxels: np.ndarray, names: list[int], common: np.ndarray, seen: list[int]
    ) -> dict[int, tuple[float, float]]:
        """How much of each of the masks ``names`` lies in one with these voxels, and the reverse; without zeros.

        common: voxels that they share; seen: voxels of each other mask in view of the one.
        """
        if not names:
            return {}
        others = [self.live[name] for name in names]
        inside = self._ratio(common, np.array(seen), np.array([len(other.voxels) for other in others]))
        seen_there = self.visibility.count(voxels, [other.frames for other in others])
        around = self._ratio(common, seen_there, np.full(len(names), len(voxels)))
        return {name: (i, a) for name, i, a in zip(names, inside, around, strict=True) if i or a}

    def _ratio(self, common: np.ndarray, seen: np.ndarray, sizes: np.ndarray) -> list[float]:
        """Share of the voxels seen that are common; 0 where little is seen, or too little is common."""
        config = self.config
        ratio = common / np.maximum(seen, 1)
        enough = (seen / sizes > config.visible) | (seen > config.visible_min_overlap)
        values: list[float] = np.where(enough & (ratio > config.contain_min), np.minimum(ratio, 1), 0).tolist()
        return values

    def _relate(self, number: int, relations: dict[int, tuple[float, float]]) -> None:
        for other, (inside, around) in relations.items():
            self.contains[number][other] = inside
            self.contains[other][number] = around

    def containment(self) -> sparse.csr_array:
        """The containment matrix of the live masks in their order, without its diagonal."""
        place = {number: position for position, number in enumerate(self.live)}
        rows: list[int] = []
        columns: list[int] = []
        values: list[float] = []
        for number, others in self.contains.items():
            rows += [place[number]] * len(others)
            columns += [place[other] for other in others]
            values += others.values()
        shape = (len(place), len(place))
        return sparse.csr_array((values, (rows, columns)), shape=shape, dtype=np.float64)

    def vectors(self, name: str) -> Vectors | None:
        """The ``semantic`` or ``geometric`` vectors of the live masks in their order; None if no mask has one."""
        found = [getattr(mask, name) for mask in self.live.values()]
        width = next((len(vector) for vector in found if vector is not None), None)
        if width is None:
            return None
        values = np.stack([np.zeros(width) if vector is None else vector for vector in found])
        return Vectors(values, np.array([vector is not None for vector in found]))

    def update(self) -> bool:
        """Merge, then drop what has not been confirmed; returns whether anything was merged."""
        self._refresh_geometry()
        first, second = self._alike()
        merged = self._merge(first, second)
        if merged:
            least = merging.least_weight(self.events, self.config)
            self.events += 1
            for _ in range(self.config.merge_contain_iter_num):
                weights = np.array([mask.weight for mask in self.live.values()])
                valid = (weights >= least) & self._allowed()
                if not self._merge(*merging.contained_pairs(self.containment(), valid, self.config)):
                    break
                least = merging.least_weight(self.events, self.config)
        self._age()
        return merged

    def _alike(self) -> tuple[np.ndarray, np.ndarray]:
        """Pairs (positions in the order of the live masks) by the similarity and the supporter rule."""
        containment = self.containment()
        pairs = merging.pairs_of(containment)
        vectors = self.vectors("semantic"), self.vectors("geometric")
        values, exist = merging.terms(pairs, *vectors, self.config, self.levels)
        if self.config.released:
            exist[:] = True
        alike = merging.similarity_rule(pairs, merging.similarity(values, exist), self.config)
        weights = np.array([mask.weight for mask in self.live.values()])
        more = merging.supported_pairs(merging.supporter_scores(containment, weights, self.config), self.config)
        first = np.concatenate([pairs.first[alike], more[0]])
        second = np.concatenate([pairs.second[alike], more[1]])
        allowed = self._allowed()
        both = allowed[first] & allowed[second]
        return first[both], second[both]

    def _allowed(self) -> np.ndarray:
        """Which live masks may merge: all, or as released only those with a geometric vector."""
        if not self.config.released:
            return np.ones(len(self.live), dtype=bool)
        return np.array([mask.geometric is not None for mask in self.live.values()], dtype=bool)

    def _merge(self, first: np.ndarray, second: np.ndarray) -> bool:
        """Join the live masks at these pairs of positions, and all that hang together; False if there are none."""
        if not len(first):
            return False
        order = list(self.live)
        labels = merging.components(len(order), first, second)
        groups: dict[int, list[int]] = {}
        for number, label in zip(order, labels.tolist(), strict=True):
            groups.setdefault(label, []).append(number)
        joined = [members for members in groups.values() if len(members) > 1]
        for members in joined:
            self._join(members)
        for members in joined:
            self._relate(members[0], self._compare_merged(members[0]))
        return True

    def _join(self, members: list[int]) -> None:
        parts = [self.live[number] for number in members]
        for number in members:
            self._forget(number)
        keeper = members[0]
        voxels = np.unique(np.concatenate([part.voxels for part in parts]))
        whole = LiveMask(
            voxels,
            [raw for part in parts for raw in part.raw],
            union_of([part.frames for part in parts]),
            sum(part.weight for part in parts),
            self.rows - 1,
            _sum_of([part.semantic for part in parts]),
        )
        whole.geometric = None if self.geometry is None else self.geometry(voxels)
        if whole.geometric is None:
            whole.geometric = _mean_of([(part.geometric, part.weight) for part in parts])
        self.table.union(keeper, members[1:])
        self.live[keeper] = whole
        self.contains[keeper] = {}

    def _forget(self, number: int) -> None:
        for other in self.contains.pop(number):
            self.contains[other].pop(number, None)
        del self.live[number]

    def _refresh_geometry(self) -> None:
        if self.geometry is not None:
            for mask in self.live.values():
                found = self.geometry(mask.voxels)
                if found is not None:
                    mask.geometric = found

    def _age(self) -> None:
        """Drop single raw masks that no other has joined for long."""
        limit = self.rows - 1 - self.config.removal_key_frames
        for number in [n for n, mask in self.live.items() if mask.weight <= 1 and mask.last_row <= limit]:
            self._forget(number)
            self.table.remove(number)
            self.removed += 1

    def valid(self) -> list[int]:
        """Numbers of the live masks that enough raw masks have confirmed, in their order."""
        least = merging.least_weight(self.events, self.config)
        return [number for number, mask in self.live.items() if mask.weight >= least]

    def rows_of(self, number: int) -> np.ndarray:
        """Key frames that a live mask was seen in."""
        return frames_of(self.live[number].frames)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays of table, visibility and live masks."""
        own = sum(mask.voxels.nbytes + mask.frames.nbytes for mask in self.live.values())
        return self.table.nbytes + self.visibility.nbytes + own


def _sum_of(vectors: list[np.ndarray | None]) -> np.ndarray | None:
    present = [vector for vector in vectors if vector is not None]
    return np.sum(present, axis=0) if present else None


def _mean_of(vectors: list[tuple[np.ndarray | None, int]]) -> np.ndarray | None:
    present = [(vector, weight) for vector, weight in vectors if vector is not None]
    if not present:
        return None
    return np.average([vector for vector, _ in present], axis=0, weights=[weight for _, weight in present])
