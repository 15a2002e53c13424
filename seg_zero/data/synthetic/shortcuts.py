"""Questions of several hops, drawn so that no shortcut finds their target more often than chance.

A *shortcut* points at an object by something less than the whole chain: the anchor, the end of the first or last hop
alone, the largest shape, the only one of its colour, and so on (:data:`SHORTCUTS`). Targets of chains taken at random
are far from even: they are, say, rarely in the middle. :func:`draw` therefore keeps a chain with a probability that
depends on which shortcuts point at its target, such that each of them points there as often as at any other object. At
that point no weighing of shortcuts is better than chance either: it is where the gradient of :func:`guess` vanishes.

    python -m seg_zero.data.synthetic.shortcuts            # what each shortcut answers
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from seg_zero.data.synthetic.hops import (
    DIRECTIONS,
    HOP_SETS,
    RADII,
    SHAPES_IN_SCENE,
    Chain,
    HopSet,
    draw_chain,
    follow,
    named_by_words,
)
from seg_zero.data.synthetic.scenes import Scene, make_scene

SHORTCUTS = (
    "anchor",
    "first hop alone",
    "last hop alone",
    "hops in the wrong order",
    "extreme of the last relation",
    "largest",
    "smallest",
    "leftmost",
    "rightmost",
    "topmost",
    "bottommost",
    "nearest to the centre",
    "nearest to the anchor",
    "farthest from the anchor",
    "only one of its colour",
    "only one of its form",
    "colour of the anchor",
    "form of the anchor",
    "named by words",
)


def pointed_at(scene: Scene, chain: Chain) -> np.ndarray:
    """What each shortcut points at: objects x shortcuts, 0 or 1; a shortcut may point at several objects or none."""
    objects, anchor = scene.objects, scene.objects[chain.anchor]
    side = scene.image.width
    columns = np.zeros((len(SHORTCUTS), len(objects)))

    def mark(name: str, index: int | None) -> None:
        if index is not None:
            columns[SHORTCUTS.index(name), index] = 1

    def least(name: str, values: Sequence[float]) -> None:
        mark(name, int(np.argmin(values)))

    mark("anchor", chain.anchor)
    if chain.hops > 1:  # of a single hop these are the answer itself
        mark("first hop alone", chain.path[1])
        mark("last hop alone", follow(scene, chain.anchor, chain.relations[-1]))
        mark("hops in the wrong order", _follow_backwards(scene, chain))
    least("largest", [-o.radius for o in objects])
    least("smallest", [o.radius for o in objects])
    places = [(o.cx, o.cy) for o in objects]
    extremes = {where: [-(x * cx + y * cy) for cx, cy in places] for where, (x, y) in DIRECTIONS.items()}
    for name, where in zip(("leftmost", "rightmost", "topmost", "bottommost"), DIRECTIONS, strict=True):
        least(name, extremes[where])
    last = chain.relations[-1]
    if last.where in DIRECTIONS:
        least("extreme of the last relation", extremes[last.where])
    least("nearest to the centre", [np.hypot(cx - side / 2, cy - side / 2) for cx, cy in places])
    far = [float(np.hypot(cx - anchor.cx, cy - anchor.cy)) for cx, cy in places]
    others = [i for i in range(len(objects)) if i != chain.anchor]
    mark("nearest to the anchor", min(others, key=far.__getitem__))
    mark("farthest from the anchor", max(others, key=far.__getitem__))
    colours, shapes = [o.colour for o in objects], [o.shape for o in objects]
    named = named_by_words(scene)
    for i, item in enumerate(objects):
        for name, holds in (
            ("only one of its colour", colours.count(item.colour) == 1),
            ("only one of its form", shapes.count(item.shape) == 1),
            ("colour of the anchor", i != chain.anchor and item.colour == anchor.colour),
            ("form of the anchor", i != chain.anchor and item.shape == anchor.shape),
            ("named by words", i in named),
        ):
            if holds:
                mark(name, i)
    return columns.T


def _follow_backwards(scene: Scene, chain: Chain) -> int | None:
    here: int | None = chain.anchor
    for relation in reversed(chain.relations):
        here = None if here is None else follow(scene, here, relation)
    return here


def possible_targets(scene: Scene, chain: Chain) -> np.ndarray:
    """Which objects the question could ask for at all: a hop never leads to where it starts, and of one or two hops
    the last start is easily known."""
    possible = np.ones(len(scene.objects), dtype=bool)
    possible[chain.path[-2]] = chain.hops > 2
    return possible


def surplus(scene: Scene, chain: Chain) -> np.ndarray:
    """By shortcut: whether it points at the target, minus the fraction of possible targets that it points at."""
    columns = pointed_at(scene, chain)
    difference: np.ndarray = columns[chain.target] - columns[possible_targets(scene, chain)].mean(axis=0)
    return difference


def guess(scene: Scene, chain: Chain, weights: np.ndarray) -> np.ndarray:
    """Probability of each object to be the target by the shortcuts alone: softmax of their weighted sum."""
    return _softmax(pointed_at(scene, chain) @ weights, possible_targets(scene, chain))


def _softmax(scores: np.ndarray, possible: np.ndarray) -> np.ndarray:
    scores = np.where(possible, scores, -np.inf)
    likely: np.ndarray = np.exp(scores - scores.max())
    return likely / likely.sum()


@dataclass(frozen=True)
class Tilt:
    """A weight for each shortcut, and the value of exp(-weights x surplus) from which a chain is kept for certain."""

    weights: tuple[float, ...]
    certain: float

    def kept(self, surplus: np.ndarray) -> np.ndarray:
        """Probability to keep a chain of this :func:`surplus` (N x shortcuts, or one row)."""
        kept: np.ndarray = np.minimum(1.0, np.exp(-surplus @ np.array(self.weights)) / self.certain)
        return kept


# Fitted by this module's command (--fit) to 4,000 chains of each set.
# fmt: off
TILTS: dict[str, Tilt] = {
    "1": Tilt((
        0.00, 0.00, 0.00, 0.00, 2.10, 0.55, 0.01, -0.61, -0.52, -0.65,
        -0.66, 0.17, 1.07, -0.27, -0.30, -0.38, 0.35, 0.25, 0.77,
    ), 3.50),
    "2": Tilt((
        0.42, 0.00, 0.73, 1.41, 1.89, 0.43, 0.22, -0.75, -0.77, -0.78,
        -0.81, 0.25, -0.23, -0.11, -0.29, -0.22, -0.25, -0.16, 0.13,
    ), 2.85),
    "2-new": Tilt((
        0.27, 0.00, 1.19, 1.75, 1.86, 0.37, 0.10, -0.70, -0.87, -0.73,
        -0.60, 0.21, -0.14, 0.05, 0.03, -0.07, -0.30, -0.45, 0.25,
    ), 2.99),
    "3": Tilt((
        0.36, 0.68, 2.06, 2.10, 2.28, 0.25, 0.12, -0.73, -0.77, -0.79,
        -0.95, 0.24, -0.00, 0.12, -0.19, -0.32, 0.09, -0.12, 0.13,
    ), 3.21),
    "4": Tilt((
        0.47, -0.81, 1.55, 0.89, 2.13, 0.19, 0.01, -0.56, -0.75, -0.78,
        -0.86, 0.30, -0.21, 0.07, -0.15, -0.10, -0.32, -0.24, -0.03,
    ), 2.96),
}
# fmt: on


def draw_any(rng: np.random.Generator, wanted: HopSet, side: int) -> tuple[Scene, Chain]:
    """A scene and a chain of it, each chain as likely as any other."""
    while True:
        scene = make_scene(rng, side, int(rng.integers(SHAPES_IN_SCENE[0], SHAPES_IN_SCENE[1] + 1)), RADII)
        chain = draw_chain(scene, wanted.hops, rng, wanted.new)
        if chain is not None:
            return scene, chain


def draw(rng: np.random.Generator, wanted: HopSet, side: int = 112) -> tuple[Scene, Chain]:
    """A scene and a question of the set whose target no shortcut gives away."""
    while True:
        scene, chain = draw_any(rng, wanted, side)
        if rng.random() < TILTS[wanted.name].kept(surplus(scene, chain)):
            return scene, chain


def draw_one(seed: int, index: int, wanted: HopSet, side: int = 112) -> tuple[Scene, Chain]:
    """Question ``index`` of a split: it depends on these arguments alone."""
    return draw(np.random.default_rng((seed, 1 + list(HOP_SETS).index(wanted.name), index)), wanted, side)


def fit_tilt(drawn: Sequence[tuple[Scene, Chain]]) -> Tilt:
    """The mildest choice among chains that leaves no shortcut a surplus: the maximum-entropy weighting of the sample
    under that condition, whose dual is this convex problem."""
    surpluses = np.array([surplus(scene, chain) for scene, chain in drawn])

    def dual(weights: np.ndarray) -> tuple[float, np.ndarray]:
        likely = np.exp(-surpluses @ weights)
        slope = -(likely @ surpluses) / likely.sum()
        return float(np.log(likely.mean()) + 5e-4 * weights @ weights), slope + 1e-3 * weights

    weights = minimize(dual, np.zeros(len(SHORTCUTS)), jac=True, method="L-BFGS-B").x
    return Tilt(tuple(weights.tolist()), float(np.quantile(np.exp(-surpluses @ weights), 0.99)))


def fit_guess(drawn: Sequence[tuple[Scene, Chain]]) -> np.ndarray:
    """Weights that make the targets most likely (:func:`guess`), with a small penalty for large ones."""
    cases = [(pointed_at(s, c), possible_targets(s, c), c.target) for s, c in drawn]

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        total, slope = 0.5 * float(weights @ weights), weights.copy()
        for columns, possible, target in cases:
            likely = _softmax(columns @ weights, possible)
            total -= float(np.log(likely[target]))
            slope += likely @ columns - columns[target]
        return total, slope

    found: np.ndarray = minimize(loss, np.zeros(len(SHORTCUTS)), jac=True, method="L-BFGS-B").x
    return found


@dataclass(frozen=True)
class Answered:
    """How often a shortcut points at the target, where it points at all, and how often chance would; with its error.

    Chance is the fraction of the possible targets that the shortcut points at.
    """

    name: str
    right: float
    chance: float
    error: float  # one standard error of ``right - chance``
    points: int  # questions


def answer_by_shortcuts(drawn: Sequence[tuple[Scene, Chain]]) -> list[Answered]:
    """Each shortcut alone, then the best mixture of all, fitted to one half of the questions and tried on the other."""
    columns = [pointed_at(s, c) for s, c in drawn]
    possible = [possible_targets(s, c) for s, c in drawn]
    targets = [c.target for _, c in drawn]
    found = []
    for number, name in enumerate(SHORTCUTS):
        asked = [i for i, column in enumerate(columns) if column[:, number].any()]
        right = np.array([columns[i][targets[i], number] for i in asked])
        chance = np.array([columns[i][possible[i], number].mean() for i in asked])
        found.append(_answered(name, right, chance))
    half = len(drawn) // 2
    weights = fit_guess(drawn[:half])
    right = np.array([float(np.argmax(guess(s, c, weights)) == c.target) for s, c in drawn[half:]])
    return [*found, _answered("all together", right, np.array([1 / some.sum() for some in possible[half:]]))]


def _answered(name: str, right: np.ndarray, chance: np.ndarray) -> Answered:
    if len(right) < 2:
        return Answered(name, float("nan"), float("nan"), float("nan"), len(right))
    error = float((right - chance).std(ddof=1) / np.sqrt(len(right)))
    return Answered(name, float(right.mean()), float(chance.mean()), error, len(right))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="questions of each set")
    parser.add_argument("--seed", type=int, default=9)
    parser.add_argument("--sets", nargs="+", choices=tuple(HOP_SETS), default=list(HOP_SETS))
    parser.add_argument("--fit", action="store_true", help="print new TILTS and nothing else")
    args = parser.parse_args()
    for name in args.sets:
        wanted = HOP_SETS[name]
        if args.fit:
            seeds = [(args.seed, 100 + list(HOP_SETS).index(name), i) for i in range(args.count)]
            drawn = [draw_any(np.random.default_rng(seed), wanted, 112) for seed in seeds]
            tilt = fit_tilt(drawn)
            weights = ", ".join(f"{weight:.2f}" for weight in tilt.weights)
            print(f'    "{name}": Tilt(({weights}), {tilt.certain:.2f}),', flush=True)
            continue
        print(f"{name} hops: right, chance, standard error, questions")
        for one in answer_by_shortcuts([draw_one(args.seed, i, wanted) for i in range(args.count)]):
            print(f"  {one.name:30} {one.right:.3f} {one.chance:.3f} {one.error:.3f} {one.points}", flush=True)


if __name__ == "__main__":
    main()
