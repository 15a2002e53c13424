"""Questions of several hops, drawn so that no shortcut finds their target more often than chance.

A *shortcut* points at an object by something less than the whole chain: the anchor, the end of the first or last hop
alone, the largest shape, the only one of its colour, and so on (:data:`SHORTCUTS`). Targets of chains taken at random
are far from even: they are, say, rarely in the middle. :func:`draw` therefore keeps a chain with a probability
inverse to how strongly a fitted mixture of all shortcuts points at its target, which leaves targets even among the
objects as far as any weighing of shortcuts can tell.

    python -m seg_zero.data.synthetic.shortcuts            # fit anew (WEIGHTS), and what each shortcut answers
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from seg_zero.data.synthetic.hops import (
    DIRECTIONS,
    RADII,
    SHAPES_IN_SCENE,
    Chain,
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
    """Which objects the question could ask for at all: a single hop never leads to its anchor."""
    possible = np.ones(len(scene.objects), dtype=bool)
    possible[chain.anchor] = chain.hops > 1
    return possible


def guess(scene: Scene, chain: Chain, weights: np.ndarray) -> np.ndarray:
    """Probability of each object to be the target by the shortcuts alone: softmax of their weighted sum."""
    scores = np.where(possible_targets(scene, chain), pointed_at(scene, chain) @ weights, -np.inf)
    likely: np.ndarray = np.exp(scores - scores.max())
    return likely / likely.sum()


# Fitted by this module's command to chains drawn at random; a row per set, a column per shortcut.
WEIGHTS: dict[str, tuple[float, ...]] = {}


@dataclass(frozen=True)
class HopSet:
    """Questions of so many hops; ``new`` ones consist of pairs of relations that all others lack."""

    hops: int
    new: bool = False

    @property
    def name(self) -> str:
        return f"{self.hops}-new" if self.new else str(self.hops)


HOP_SETS = {one.name: one for one in (HopSet(1), HopSet(2), HopSet(2, new=True), HopSet(3), HopSet(4))}
KEPT = 0.35  # of the chains that are exactly as likely as chance; more of the unlikely, fewer of the likely


def draw_any(rng: np.random.Generator, wanted: HopSet, side: int) -> tuple[Scene, Chain]:
    """A scene and a chain of it, each chain as likely as any other."""
    while True:
        scene = make_scene(rng, side, int(rng.integers(SHAPES_IN_SCENE[0], SHAPES_IN_SCENE[1] + 1)), RADII)
        chain = draw_chain(scene, wanted.hops, rng, wanted.new)
        if chain is not None:
            return scene, chain


def draw(rng: np.random.Generator, wanted: HopSet, side: int = 112) -> tuple[Scene, Chain]:
    """A scene and a question of the set whose target no shortcut gives away."""
    weights = np.array(WEIGHTS[wanted.name])
    while True:
        scene, chain = draw_any(rng, wanted, side)
        chance = 1 / possible_targets(scene, chain).sum()
        if rng.random() < KEPT * chance / guess(scene, chain, weights)[chain.target]:
            return scene, chain


def draw_one(seed: int, index: int, wanted: HopSet, side: int = 112) -> tuple[Scene, Chain]:
    """Question ``index`` of a split: it depends on these arguments alone."""
    return draw(np.random.default_rng((seed, 1 + list(HOP_SETS).index(wanted.name), index)), wanted, side)


def fit(drawn: Sequence[tuple[Scene, Chain]]) -> np.ndarray:
    """Weights that make the targets most likely (:func:`guess`), with a small penalty for large ones."""
    cases = [(pointed_at(s, c), possible_targets(s, c), c.target) for s, c in drawn]

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        total, slope = 0.5 * float(weights @ weights), weights.copy()
        for columns, possible, target in cases:
            scores = np.where(possible, columns @ weights, -np.inf)
            likely = np.exp(scores - scores.max())
            likely /= likely.sum()
            total -= float(np.log(likely[target]))
            slope += likely @ columns - columns[target]
        return total, slope

    found: np.ndarray = minimize(loss, np.zeros(len(SHORTCUTS)), jac=True, method="L-BFGS-B").x
    return found


@dataclass(frozen=True)
class Answered:
    """How often a shortcut points at the target, where it points at all, and how often chance would; with its error.

    Pointing at several objects counts as taking one of them at random.
    """

    name: str
    right: float
    chance: float
    error: float  # one standard error of ``right - chance``
    points: int  # questions


def answer_by_shortcuts(drawn: Sequence[tuple[Scene, Chain]]) -> list[Answered]:
    """Each shortcut alone, then the best mixture of all, fitted to one half of the questions and tried on the other."""
    columns = [pointed_at(s, c) for s, c in drawn]
    chances = np.array([1 / possible_targets(s, c).sum() for s, c in drawn])
    targets = [c.target for _, c in drawn]
    found = []
    for number, name in enumerate(SHORTCUTS):
        asked = [i for i, column in enumerate(columns) if column[:, number].any()]
        right = np.array([columns[i][targets[i], number] / columns[i][:, number].sum() for i in asked])
        found.append(_answered(name, right, chances[asked]))
    half = len(drawn) // 2
    weights = fit(drawn[:half])
    right = np.array([float(np.argmax(guess(s, c, weights)) == c.target) for s, c in drawn[half:]])
    return [*found, _answered("all together", right, chances[half:])]


def _answered(name: str, right: np.ndarray, chance: np.ndarray) -> Answered:
    gap = right - chance
    if len(gap) < 2:
        return Answered(name, float("nan"), float("nan"), float("nan"), len(gap))
    error = float(gap.std(ddof=1) / np.sqrt(len(gap)))
    return Answered(name, float(right.mean()), float(chance.mean()), error, len(gap))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=4000, help="questions of each set")
    parser.add_argument("--seed", type=int, default=9)
    parser.add_argument("--fit", action="store_true", help="print new WEIGHTS and nothing else")
    args = parser.parse_args()
    for number, (name, wanted) in enumerate(HOP_SETS.items()):
        if args.fit:
            drawn = [
                draw_any(np.random.default_rng((args.seed, 100 + number, i)), wanted, 112) for i in range(args.count)
            ]
            print(f'    "{name}": ({", ".join(f"{w:.2f}" for w in fit(drawn))}),', flush=True)
            continue
        print(f"{name} hops: right, chance, standard error, questions")
        for one in answer_by_shortcuts([draw_one(args.seed, i, wanted) for i in range(args.count)]):
            print(f"  {one.name:30} {one.right:.3f} {one.chance:.3f} {one.error:.3f} {one.points}", flush=True)


if __name__ == "__main__":
    main()
