"""Questions that take k steps: a chain of relations from an object that its words name to the object asked for.

    the largest shape left of the nearest shape above the red circle      k = 2

Read from the right: the red circle is the *anchor*; each relation before it is one hop. A hop leads to exactly one
object or the question is not asked. ``seg_zero.data.synthetic.shortcuts`` draws questions so that nothing short of the
chain finds the answer more often than chance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar
from zlib import crc32

import numpy as np

from seg_zero.data.synthetic.scenes import MARGIN, Scene, SceneObject

T = TypeVar("T")

SHAPES_IN_SCENE = (5, 6)
RADII = {"small": (0.070, 0.085), "large": (0.110, 0.135)}  # of the image side: six of them find room
CLEAR = 1.2  # how many times farther, larger or smaller the second candidate must be

DIRECTIONS: dict[str, tuple[int, int]] = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}
CHOICES = ("nearest", "largest", "smallest")
ALIKE = ("colour", "form")


@dataclass(frozen=True)
class Relation:
    """One hop: the ``choice`` among the shapes in a direction, or the only other shape of the same colour or form.

    ``where`` is a key of :data:`DIRECTIONS`, or one of :data:`ALIKE` without a choice.
    """

    where: str
    choice: str = ""

    def words(self, inner: str) -> str:
        if self.where in ALIKE:
            return f"the other shape of the same {self.where} as {inner}"
        return f"the {self.choice} shape {self.where} {inner}"

    def __str__(self) -> str:
        return f"{self.choice} {self.where}".strip()


RELATIONS = (
    *(Relation(where, choice) for where in DIRECTIONS for choice in CHOICES),
    *(Relation(where) for where in ALIKE),
)


@dataclass(frozen=True)
class Chain:
    """A question with its steps: ``path`` holds the anchor and then the object after each hop, as indices."""

    relations: tuple[Relation, ...]
    path: tuple[int, ...]
    text: str

    @property
    def hops(self) -> int:
        return len(self.relations)

    @property
    def anchor(self) -> int:
        return self.path[0]

    @property
    def target(self) -> int:
        return self.path[-1]


@dataclass(frozen=True)
class HopSet:
    """Questions of so many hops; ``new`` ones consist of pairs of relations that all others lack."""

    hops: int
    new: bool = False

    @property
    def name(self) -> str:
        return f"{self.hops}-new" if self.new else str(self.hops)


HOP_SETS = {one.name: one for one in (HopSet(1), HopSet(2), HopSet(2, new=True), HopSet(3), HopSet(4))}


@cache
def is_held_out(first: Relation, second: Relation) -> bool:
    """Whether the pair is among the quarter of all ordered pairs that only questions of new compositions contain."""
    return crc32(f"{first} > {second}".encode()) % 4 == 0


def _may_follow(first: Relation, second: Relation, new: bool) -> bool:
    there_and_back = first.where in ALIKE and first == second
    return is_held_out(first, second) == new and not there_and_back


def follow(scene: Scene, start: int, relation: Relation) -> int | None:
    """The object to which a hop leads from object ``start``; None if there is none, or not clearly one.

    A shape is left of another if its centre is, by more than :data:`scenes.MARGIN` of the side; a shape within the
    margin that would win makes the hop unclear.
    """
    here = scene.objects[start]
    others = [i for i in range(len(scene.objects)) if i != start]
    if relation.where in ALIKE:
        same = [i for i in others if _trait(scene.objects[i], relation.where) == _trait(here, relation.where)]
        return same[0] if len(same) == 1 else None
    x, y = DIRECTIONS[relation.where]
    gaps = {i: x * (scene.objects[i].cx - here.cx) + y * (scene.objects[i].cy - here.cy) for i in others}
    costs = {i: _cost(here, scene.objects[i], relation.choice) for i in others if gaps[i] > 0}
    ordered = sorted(costs, key=costs.__getitem__)
    if not ordered or gaps[ordered[0]] <= MARGIN * scene.image.width:
        return None
    if len(ordered) > 1 and costs[ordered[1]] < CLEAR * costs[ordered[0]]:
        return None
    return ordered[0]


def _trait(item: SceneObject, name: str) -> str:
    return item.colour if name == "colour" else item.shape


def _cost(here: SceneObject, item: SceneObject, choice: str) -> float:
    """What the choice makes least."""
    if choice == "nearest":
        return float(np.hypot(item.cx - here.cx, item.cy - here.cy))
    return item.radius if choice == "smallest" else 1 / item.radius


def named_by_words(scene: Scene) -> dict[int, str]:
    """Objects that their colour and form name: index to words."""
    pairs = [(o.colour, o.shape) for o in scene.objects]
    return {i: f"the {c} {s}" for i, (c, s) in enumerate(pairs) if pairs.count((c, s)) == 1}


def draw_chain(
    scene: Scene, hops: int, rng: np.random.Generator, new: bool = False, anchors: Mapping[int, str] | None = None
) -> Chain | None:
    """One of the scene's questions of so many hops, each as likely as any other; None if it allows none.

    new: all pairs of relations in a row are held out (:func:`is_held_out`); otherwise none is.
    anchors: what a question may start from, index to words (default: :func:`named_by_words`).
    """
    ways_on = {
        i: [(r, found) for r in RELATIONS if (found := follow(scene, i, r)) is not None]
        for i in range(len(scene.objects))
    }

    @cache
    def count(here: int, last: Relation | None, left: int) -> int:
        """Chains of ``left`` more hops from an object that ``last`` led to."""
        return sum(count(found, r, left - 1) for r, found in onward(here, last)) if left else 1

    def onward(here: int, last: Relation | None) -> list[tuple[Relation, int]]:
        return [(r, found) for r, found in ways_on[here] if last is None or _may_follow(last, r, new)]

    def pick(choices: Sequence[T], numbers: Sequence[int]) -> T:
        return choices[int(np.searchsorted(np.cumsum(numbers), rng.integers(sum(numbers)), side="right"))]

    named = named_by_words(scene) if anchors is None else anchors
    starts = [i for i in named if count(i, None, hops)]
    if not starts:
        return None
    path = [pick(starts, [count(i, None, hops) for i in starts])]
    relations: list[Relation] = []
    for left in range(hops - 1, -1, -1):
        choices = onward(path[-1], relations[-1] if relations else None)
        relation, found = pick(choices, [count(found, r, left) for r, found in choices])
        relations.append(relation)
        path.append(found)
    text = named[path[0]]
    for relation in relations:
        text = relation.words(text)
    return Chain(tuple(relations), tuple(path), text)
