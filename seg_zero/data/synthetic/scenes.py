"""Synthetic scenes: coloured shapes on textured backgrounds, with questions and exact answers.

Everything depends only on the seed and the sample's index, so a split is the same on every
machine and in every process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from seg_zero.masks import mask_to_prompt_object
from seg_zero.objects import PromptObject

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 48, 40),
    "green": (44, 160, 70),
    "blue": (40, 84, 214),
    "yellow": (238, 208, 40),
    "purple": (142, 54, 176),
    "orange": (244, 132, 24),
}
SHAPES = ("circle", "square", "triangle", "diamond", "cross")
KINDS = ("attr", "size", "pos", "rel", "plural", "none")
PLURALS = {"circle": "circles", "square": "squares", "triangle": "triangles", "diamond": "diamonds", "cross": "crosses"}
RADII = {"small": (0.085, 0.115), "large": (0.16, 0.205)}  # of the image side
MARGIN = 0.09  # of the side: how clear a "leftmost" or "left of" must be


@dataclass(frozen=True)
class SceneObject:
    """One shape: attributes, centre and radius in pixels, and its mask (boolean H x W)."""

    colour: str
    shape: str
    size: str
    cx: float
    cy: float
    radius: float
    mask: np.ndarray
    prompt: PromptObject


@dataclass(frozen=True)
class Scene:
    image: Image.Image
    objects: tuple[SceneObject, ...]


@dataclass(frozen=True)
class Question:
    """``targets`` are indices into the scene's objects, in reading order; empty for "none"."""

    kind: str
    text: str
    targets: tuple[int, ...]


@dataclass(frozen=True)
class Sample:
    scene: Scene
    question: Question

    @property
    def mask(self) -> np.ndarray:
        """Union of the targets' masks, boolean H x W."""
        union = np.zeros((self.scene.image.height, self.scene.image.width), dtype=bool)
        for index in self.question.targets:
            union |= self.scene.objects[index].mask
        return union


def shape_mask(shape: str, cx: float, cy: float, r: float, side: int) -> np.ndarray:
    """A shape of :data:`SHAPES` with centre and "radius" in pixels, boolean side x side."""
    y, x = np.ogrid[:side, :side]
    dx, dy = x + 0.5 - cx, y + 0.5 - cy
    if shape == "circle":
        return dx**2 + dy**2 <= r**2
    if shape == "square":
        return np.maximum(np.abs(dx), np.abs(dy)) <= 0.86 * r
    if shape == "diamond":
        return np.abs(dx) + np.abs(dy) <= 1.1 * r
    if shape == "triangle":  # apex on top
        return (dy <= 0.8 * r) & (np.abs(dx) * 1.8 <= dy + r)
    if shape == "cross":
        arm = 0.36 * r
        return np.minimum(np.abs(dx), np.abs(dy)) <= np.where(np.maximum(np.abs(dx), np.abs(dy)) <= r, arm, -1.0)
    raise ValueError(f"unknown shape {shape!r}")


def background(rng: np.random.Generator, side: int) -> np.ndarray:
    """A muted texture, H x W x 3 floats in 0..255."""
    base = rng.uniform(70, 190) + rng.uniform(-18, 18, size=3)
    y, x = np.mgrid[:side, :side] / side
    kind = rng.integers(3)
    if kind == 0:  # smooth low-frequency waves
        waves = sum(np.sin(rng.uniform(2, 12) * x + rng.uniform(2, 12) * y + rng.uniform(0, 6.28)) for _ in range(3))
        pattern = np.asarray(waves) / 3
    elif kind == 1:  # stripes
        angle, frequency = rng.uniform(0, np.pi), rng.uniform(20, 60)
        pattern = np.sign(np.sin(frequency * (np.cos(angle) * x + np.sin(angle) * y)))
    else:  # checker board
        cells = rng.integers(4, 12)
        pattern = ((np.floor(x * cells) + np.floor(y * cells)) % 2) * 2 - 1
    noise = rng.normal(0, 5, size=(side, side, 1))
    return base + rng.uniform(6, 22) * pattern[..., None] + noise


def make_scene(
    rng: np.random.Generator,
    side: int = 112,
    shapes: int | None = None,
    radii: Mapping[str, tuple[float, float]] = RADII,
) -> Scene:
    """Draw a scene of 2 to 5 (or ``shapes``) disjoint shapes on a ``side`` x ``side`` image.

    ``radii`` gives the smallest and the largest radius of each size, as fractions of the side.

    Colours and shapes come from small palettes of the scene, so that objects often share an attribute
    and a question has to tell them apart.
    """
    wanted = shapes if shapes is not None else int(rng.integers(2, 6))
    colours = rng.choice(list(COLOURS), size=min(len(COLOURS), int(rng.integers(2, 4))), replace=False)
    kinds = rng.choice(SHAPES, size=int(rng.integers(2, 4)), replace=False)
    canvas = background(rng, side)
    placed: list[tuple[str, str, str, float, float, float]] = []
    for _ in range(60):
        if len(placed) == wanted:
            break
        size = "small" if rng.random() < 0.55 else "large"
        radius = float(rng.uniform(*radii[size])) * side
        cx, cy = rng.uniform(radius + 1, side - radius - 1, size=2)
        if all(np.hypot(cx - px, cy - py) > radius + pr + 3 for *_, px, py, pr in placed):
            placed.append((str(rng.choice(colours)), str(rng.choice(kinds)), size, float(cx), float(cy), radius))
    placed.sort(key=lambda item: (item[4] // (side / 4), item[3]))  # reading order: rows, then left to right
    objects = []
    for colour, shape, size, cx, cy, radius in placed:
        mask = shape_mask(shape, cx, cy, radius, side)
        paint = np.array(COLOURS[colour]) * rng.uniform(0.85, 1.1) + rng.normal(0, 6, size=(side, side, 1))
        canvas = np.where(mask[..., None], paint, canvas)
        objects.append(SceneObject(colour, shape, size, cx, cy, radius, mask, mask_to_prompt_object(mask)))
    image = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
    return Scene(image, tuple(objects))


def _matching(scene: Scene, colour: str | None, shape: str | None, size: str | None = None) -> list[int]:
    return [
        i
        for i, o in enumerate(scene.objects)
        if colour in (None, o.colour) and shape in (None, o.shape) and size in (None, o.size)
    ]


def _noun(colour: str | None, shape: str | None, plural: bool = False) -> str:
    noun = ("shapes" if plural else "shape") if shape is None else (PLURALS[shape] if plural else shape)
    return noun if colour is None else f"{colour} {noun}"


def _descriptions(scene: Scene) -> list[tuple[str | None, str | None]]:
    """Colour and shape pairs (None = any) that hold for at least one object, in a fixed order."""
    pairs: dict[tuple[str | None, str | None], None] = {}
    for o in scene.objects:
        for pair in ((o.colour, o.shape), (o.colour, None), (None, o.shape)):
            pairs[pair] = None
    return list(pairs)


def _ask_attr(scene: Scene, side: int) -> Iterator[tuple[str, list[int]]]:
    for colour, shape in _descriptions(scene):
        found = _matching(scene, colour, shape)
        if len(found) == 1:
            yield f"the {_noun(colour, shape)}", found


def _ask_size(scene: Scene, side: int) -> Iterator[tuple[str, list[int]]]:
    for colour, shape in _descriptions(scene):
        group = _matching(scene, colour, shape)
        if len(group) < 2:
            continue
        ordered = sorted(group, key=lambda i: scene.objects[i].radius)
        radii = [scene.objects[i].radius for i in ordered]
        if radii[-1] > 1.25 * radii[-2]:
            yield f"the largest {_noun(colour, shape)}", [ordered[-1]]
        if radii[1] > 1.25 * radii[0]:
            yield f"the smallest {_noun(colour, shape)}", [ordered[0]]


def _ask_pos(scene: Scene, side: int) -> Iterator[tuple[str, list[int]]]:
    groups = [(None, None), *_descriptions(scene)]
    for colour, shape in groups:
        group = _matching(scene, colour, shape)
        if len(group) < 2:
            continue
        for word, key in (
            ("leftmost", lambda o: o.cx),
            ("rightmost", lambda o: -o.cx),
            ("topmost", lambda o: o.cy),
            ("bottommost", lambda o: -o.cy),
        ):
            ordered = sorted(group, key=lambda i, k=key: k(scene.objects[i]))  # type: ignore[misc]
            if key(scene.objects[ordered[1]]) - key(scene.objects[ordered[0]]) > MARGIN * side:
                yield f"the {word} {_noun(colour, shape)}", [ordered[0]]


_RELATIONS: tuple[tuple[str, Callable[[SceneObject, SceneObject], float]], ...] = (
    ("left of", lambda a, b: b.cx - a.cx),
    ("right of", lambda a, b: a.cx - b.cx),
    ("above", lambda a, b: b.cy - a.cy),
    ("below", lambda a, b: a.cy - b.cy),
)


def _ask_rel(scene: Scene, side: int) -> Iterator[tuple[str, list[int]]]:
    anchors = [(c, s, _matching(scene, c, s)) for c, s in _descriptions(scene) if c and s]
    for colour, shape in _descriptions(scene):
        group = _matching(scene, colour, shape)
        if len(group) < 2:
            continue
        for anchor_colour, anchor_shape, found in anchors:
            if len(found) != 1 or found[0] in group:
                continue
            anchor = scene.objects[found[0]]
            for words, gap in _RELATIONS:
                gaps = {i: gap(scene.objects[i], anchor) for i in group}
                inside = [i for i, g in gaps.items() if g > MARGIN * side]
                if len(inside) == 1 and all(g < 0 for i, g in gaps.items() if i not in inside):
                    yield f"the {_noun(colour, shape)} {words} the {_noun(anchor_colour, anchor_shape)}", inside


def _ask_plural(scene: Scene, side: int) -> Iterator[tuple[str, list[int]]]:
    for colour, shape in _descriptions(scene):
        group = _matching(scene, colour, shape)
        if 2 <= len(group) <= 3:
            yield f"all {_noun(colour, shape, plural=True)}", group


def _ask_none(scene: Scene, side: int) -> Iterator[tuple[str, list[int]]]:
    # Always a near miss, and in every form that other kinds use: the wording must not give it away.
    colours = list(dict.fromkeys(o.colour for o in scene.objects))
    shapes = list(dict.fromkeys(o.shape for o in scene.objects))
    for colour in colours:
        for shape in shapes:
            if not _matching(scene, colour, shape):
                yield f"the {_noun(colour, shape)}", []
                yield f"all {_noun(colour, shape, plural=True)}", []
    for colour in COLOURS:
        if colour not in colours:
            yield f"the {_noun(colour, None)}", []
            yield f"the {_noun(colour, shapes[0])}", []
    for shape in SHAPES:
        if shape not in shapes:
            yield f"the {_noun(None, shape)}", []


_ASK: dict[str, Callable[[Scene, int], Iterator[tuple[str, list[int]]]]] = {
    "attr": _ask_attr,
    "size": _ask_size,
    "pos": _ask_pos,
    "rel": _ask_rel,
    "plural": _ask_plural,
    "none": _ask_none,
}


def questions_of(scene: Scene, kind: str) -> list[Question]:
    """Every unambiguous question of a kind (one of :data:`KINDS`) that the scene allows, in a fixed order."""
    asked: dict[str, Question] = {}
    for text, targets in _ASK[kind](scene, scene.image.width):
        asked.setdefault(text, Question(kind, text, tuple(targets)))
    return list(asked.values())


def make_sample(seed: int, index: int, side: int = 112, kinds: Sequence[str] = KINDS) -> Sample:
    """Sample ``index`` of the split ``seed``; question kinds take turns."""
    rng = np.random.default_rng((seed, index))
    kind = kinds[index % len(kinds)]
    while True:
        scene = make_scene(rng, side)
        questions = questions_of(scene, kind)
        if questions:
            return Sample(scene, questions[int(rng.integers(len(questions)))])


def make_samples(seed: int, count: int, side: int = 112, kinds: Sequence[str] = KINDS) -> Iterator[Sample]:
    for index in range(count):
        yield make_sample(seed, index, side, kinds)
