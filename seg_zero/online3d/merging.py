"""Which live masks are one object: three rules over the containment matrix, without state.

A containment matrix C is sparse (CSR, N x N, no diagonal): C[i, j] is the fraction of mask j inside mask i, as far as
the frames of i show it. An entry is stored in both directions if one of them is not zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from seg_zero.online3d.calibration import Levels
from seg_zero.online3d.config import SceneConfig
from seg_zero.online3d.vectors import unit_rows

TERMS = 3  # containment, semantic, geometric: what sim_merge_thresh is a sum of
_CURVATURE = 0.1


@dataclass(frozen=True)
class Pairs:
    """Pairs of masks with any overlap, M of them: first[m] > second[m].

    inside: how much of the second lies in the first; around: how much of the first lies in the second.
    """

    first: np.ndarray
    second: np.ndarray
    inside: np.ndarray
    around: np.ndarray


def pairs_of(containment: sparse.csr_array) -> Pairs:
    lower = sparse.tril(containment, -1).tocoo()
    transposed = sparse.csr_array(containment.T)
    around = np.asarray(transposed[lower.row, lower.col]).reshape(-1)
    return Pairs(lower.row.astype(np.int64), lower.col.astype(np.int64), lower.data, around)


def semantic_score(cosine: np.ndarray, least: float, most: float = 1.0, curvature: float = _CURVATURE) -> np.ndarray:
    """Cosines clamped to [least, most] and spread to 0..1 by a saturating exponential."""
    steps = np.clip(cosine, least, most) - least
    score: np.ndarray = (1 - np.exp(-curvature * steps)) / (1 - np.exp(-curvature * (most - least)))
    return score


def cosines(vectors: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cosine of rows first[m] and second[m] of vectors N x D; 0 where one of them is zero."""
    unit = unit_rows(vectors)
    product: np.ndarray = np.einsum("md,md->m", unit[first], unit[second])
    return product


@dataclass(frozen=True)
class Vectors:
    """Feature vectors N x D of the masks, and which of them have one."""

    values: np.ndarray
    present: np.ndarray


def terms(
    pairs: Pairs,
    semantic: Vectors | None,
    geometric: Vectors | None,
    config: SceneConfig,
    levels: Levels | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The terms of the similarity M x 3 (containment, semantic, geometric) and which of them exist.

    levels: what the cosines of this scene mean; features that cannot tell its things apart are no term. None: the
    fixed range, from ``seman_min_value`` to 1.
    """
    least, most = (config.seman_min_value, 1.0) if levels is None else (levels.different, levels.same)
    if levels is not None and not levels.tells_apart:
        semantic = None
    values = np.zeros((len(pairs.first), TERMS))
    exist = np.zeros(values.shape, dtype=bool)
    values[:, 0], exist[:, 0] = (pairs.inside + pairs.around) / 2, True
    for column, vectors in ((1, semantic), (2, geometric)):
        if vectors is not None:
            cosine = cosines(vectors.values, pairs.first, pairs.second)
            values[:, column] = semantic_score(cosine, least, most) if column == 1 else cosine
            exist[:, column] = vectors.present[pairs.first] & vectors.present[pairs.second]
    return values, exist


def similarity(values: np.ndarray, exist: np.ndarray) -> np.ndarray:
    """The sum of the terms; where some do not exist, what it would be if they were as high as the mean of the rest."""
    total: np.ndarray = np.where(exist, values, 0).sum(1) * (TERMS / exist.sum(1))
    return total


def similarity_rule(pairs: Pairs, total: np.ndarray, config: SceneConfig) -> np.ndarray:
    """Pairs that look alike and overlap in both directions."""
    overlap = np.minimum(pairs.inside, pairs.around) > config.merge_overlap_thresh
    return overlap & (total > config.sim_merge_thresh)


def supporter_scores(containment: sparse.csr_array, weights: np.ndarray, config: SceneConfig) -> sparse.csr_array:
    """How many raw masks hold both of two masks, N x N: k supports i and j if both lie in it and fill a part of it.

    A mask is no supporter of itself.
    """
    inside = sparse.csr_array(containment.T)  # [i, k]: how much of i lies in k
    holds = (inside > config.containing_ratio).multiply(containment > config.contained_ratio)
    support = sparse.csr_array(holds, dtype=np.float64)
    return sparse.csr_array(support @ sparse.diags_array(weights.astype(np.float64)) @ support.T)


def supported_pairs(scores: sparse.csr_array, config: SceneConfig) -> tuple[np.ndarray, np.ndarray]:
    lower = sparse.tril(scores, -1).tocoo()
    enough = lower.data >= config.merge_supporter_num
    return lower.row[enough].astype(np.int64), lower.col[enough].astype(np.int64)


def contained_pairs(
    containment: sparse.csr_array, valid: np.ndarray, config: SceneConfig
) -> tuple[np.ndarray, np.ndarray]:
    """(container, contained) among the valid masks; of several containers of one mask, that which holds most of it."""
    entries = containment.tocoo()
    strong = (entries.data > config.merge_contain_ratio) & valid[entries.row] & valid[entries.col]
    outer, inner, ratio = entries.row[strong], entries.col[strong], entries.data[strong]
    order = np.lexsort((outer, -ratio, inner))
    outer, inner = outer[order], inner[order]
    best = np.ones(len(inner), dtype=bool)
    best[1:] = inner[1:] != inner[:-1]
    return outer[best].astype(np.int64), inner[best].astype(np.int64)


def components(count: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Labels N of the connected components of masks joined by these pairs, in order of their smallest member."""
    links = sparse.coo_array((np.ones(len(first)), (first, second)), shape=(count, count))
    labels = connected_components(links, directed=False)[1]
    _, start, label = np.unique(labels, return_index=True, return_inverse=True)
    ranks = np.empty(len(start), dtype=np.int64)
    ranks[np.argsort(start)] = np.arange(len(start))
    named: np.ndarray = ranks[label]
    return named


def least_weight(events: int, config: SceneConfig) -> int:
    """Raw masks that an instance must consist of after so many merge events."""
    return min(events + 2, config.mask_weight_threshold)
