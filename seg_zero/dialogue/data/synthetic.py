"""Synthetic dialogues: scenes of coloured shapes, with parts if wanted, from a seed and a number alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from seg_zero.data.synthetic.scenes import COLOURS, Scene, make_scene, shape_mask
from seg_zero.dialogue.data.generate import make_rounds
from seg_zero.dialogue.data.records import DialogueRecord
from seg_zero.dialogue.data.relations import Thing
from seg_zero.files import write_image

# Not those of the synthetic questions (seg_zero.data.synthetic.rows), so that no picture is in both.
SEEDS = {"train": 12, "val": 13}
SCENES = ("shapes", "parts")
CORE = "core"
CORE_SIZE = 0.45  # of the shape that it is the middle of
# Parts of a shape, by the fractions of its area above their first and their last row.
PARTS: dict[str, tuple[float, float]] = {"cap": (0.0, 0.22), "stripe": (0.4, 0.6), "base": (0.78, 1.0)}
PART_CHANCE = 0.65
_LEAST_PIXELS = 6  # of a part
_TRIES = 200


def make_things(
    rng: np.random.Generator, side: int, parts: bool, scenes: str = "shapes"
) -> tuple[Image.Image, tuple[Thing, ...]]:
    """A scene of 3 to 6 shapes. parts: most have a core of another colour, which is a thing of its own; scenes
    ``parts``: they have caps, stripes and bases of other colours instead."""
    scene = make_scene(rng, side, int(rng.integers(3, 7)))
    things = [Thing((item.colour, item.shape), item.mask) for item in scene.objects]
    if scenes == "parts":
        return _with_parts(scene, things, rng)
    if not parts:
        return scene.image, tuple(things)
    return _with_cores(scene, things, rng)


def _with_cores(scene: Scene, things: list[Thing], rng: np.random.Generator) -> tuple[Image.Image, tuple[Thing, ...]]:
    canvas = np.array(scene.image)
    side = scene.image.width
    for number, item in enumerate(scene.objects):
        if rng.random() < 0.25:
            continue
        colours = [name for name in COLOURS if name != item.colour]
        colour = colours[int(rng.integers(len(colours)))]
        core = shape_mask(item.shape, item.cx, item.cy, item.radius * CORE_SIZE, side)
        canvas[core] = COLOURS[colour]
        things.append(Thing((colour, CORE), core, number))
    return Image.fromarray(canvas), tuple(things)


def _with_parts(scene: Scene, things: list[Thing], rng: np.random.Generator) -> tuple[Image.Image, tuple[Thing, ...]]:
    """Shapes with caps, stripes and bases: rows of the shape in other colours, no two of a shape alike."""
    canvas = np.array(scene.image, dtype=np.float64)
    for number, item in enumerate(scene.objects):
        colours = [str(name) for name in rng.permutation([name for name in COLOURS if name != item.colour])]
        for name, (start, end) in PARTS.items():
            if rng.random() >= PART_CHANCE:
                continue
            part = _rows_between(item.mask, start, end)
            if part.sum() < _LEAST_PIXELS:
                continue
            colour = colours.pop()
            canvas[part] = np.array(COLOURS[colour]) * rng.uniform(0.9, 1.08) + rng.normal(0, 5, (int(part.sum()), 1))
            things.append(Thing((colour, name), part, number))
    return Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8)), tuple(things)


def _rows_between(mask: np.ndarray, start: float, end: float) -> np.ndarray:
    """The rows of a mask whose middle lies between two fractions of its area, counted from the top."""
    rows = mask.sum(axis=1)
    middle = (np.cumsum(rows) - rows / 2) / mask.sum()
    return np.asarray(mask & ((middle >= start) & (middle < end))[:, None])


def make_dialogue(
    seed: int,
    number: int,
    *,
    side: int = 112,
    rounds: int = 6,
    parts: bool = False,
    forms: str = "own",
    scenes: str = "shapes",
) -> tuple[Image.Image, DialogueRecord]:
    """Dialogue ``number`` of a seed, of 2 to ``rounds`` rounds (2 or more); its record names the picture
    ``NAME.png``. scenes: one of SCENES; parts: for ``shapes``, with a core (:func:`make_things`)."""
    rng = np.random.default_rng((seed, number))
    for _ in range(_TRIES):
        image, things = make_things(rng, side, parts, scenes)
        wanted = int(rng.integers(2, rounds + 1))
        made = make_rounds(things, rng, wanted, forms=forms, general="shape", all_of_parts=scenes == "parts")
        if len(made) > 1:
            name = f"{'parts' if scenes == 'parts' else 'dialogue'}-{seed}-{number:06d}"
            return image, DialogueRecord(
                name, Path(f"{name}.png"), side, side, tuple(made), tuple(thing.record() for thing in things)
            )
    raise AssertionError(f"no scene of {_TRIES} allows a dialogue; seed {seed}, number {number}, side {side}")


def make_dialogues(
    folder: Path,
    seed: int,
    count: int,
    *,
    side: int = 112,
    rounds: int = 6,
    parts: bool = False,
    forms: str = "own",
    scenes: str = "shapes",
) -> Iterator[DialogueRecord]:
    """Dialogues of :func:`make_dialogue` whose pictures are written into ``folder`` as they are taken."""
    for number in range(count):
        image, record = make_dialogue(seed, number, side=side, rounds=rounds, parts=parts, forms=forms, scenes=scenes)
        path = folder / record.image
        write_image(path, image)
        yield replace(record, image=path)
