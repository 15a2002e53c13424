"""A patch of the synthetic world in metres: regions of classes, drawn from the ground up.

Everything is placed in any orientation: the whole patch is laid out along an axis of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

CLASSES = ("grass", "field", "road", "roof", "tree", "water", "car", "pool")
TRAINED = ("grass", "field", "road", "roof", "tree")  # what a training on one sensor sees
UNSEEN = ("water", "car", "pool")  # classes that occur only where it is evaluated
# Other words for the classes, none of which a training sees.
OTHER_NAMES = {
    "grass": "meadow",
    "field": "cropland",
    "road": "street",
    "roof": "building",
    "tree": "woodland",
    "water": "lake",
    "car": "vehicle",
    "pool": "swimming basin",
}

Kind = Literal["polygon", "disc"]


@dataclass(frozen=True)
class Shape:
    """points: N x 2 metres, or the centre of a disc of ``radius``; height: metres above the ground, which cast shadows;
    tone: 0..1, which of the class's colours; angle: of its texture, radians."""

    label: str
    points: np.ndarray
    radius: float = 0.0
    height: float = 0.0
    tone: float = 0.5
    angle: float = 0.0


@dataclass(frozen=True)
class Patch:
    """A square of ``side`` metres around the origin; later shapes lie on earlier ones.

    sun: where shadows fall, radians.
    """

    side: float
    shapes: tuple[Shape, ...]
    sun: float
    seed: int


def make_patch(seed: int, side: float) -> Patch:
    """A patch of the world; the same seed and side give the same one."""
    rng = np.random.default_rng([seed, round(side * 1000)])
    axis = float(rng.uniform(0, np.pi))
    shapes: list[Shape] = []
    _fields(shapes, rng, side, axis)
    _water(shapes, rng, side)
    roads = _roads(shapes, rng, side, axis)
    _houses(shapes, rng, side, axis, roads)
    _cars(shapes, rng, side, axis, roads)
    _trees(shapes, rng, side)
    return Patch(side, tuple(shapes), float(rng.uniform(0, 2 * np.pi)), seed)


def rectangle(centre: np.ndarray, length: float, width: float, angle: float) -> np.ndarray:
    """4 x 2 corners, the length along the angle."""
    along = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    across = np.array([-np.sin(angle), np.cos(angle)]) * width / 2
    return np.stack(
        [centre + along + across, centre + along - across, centre - along - across, centre - along + across]
    )


def _turned(points: np.ndarray, angle: float) -> np.ndarray:
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return points @ turn


def _fields(shapes: list[Shape], rng: np.random.Generator, side: float, axis: float) -> None:
    """Parcels along the axis of the patch, some of them grass."""
    reach, edge = side * 0.75, -side * 0.75
    while edge < reach:
        depth = float(rng.uniform(0.3, 0.6)) * side
        start = -reach
        while start < reach:
            length = float(rng.uniform(0.2, 0.5)) * side
            corners = np.array(
                [[start, edge], [start + length, edge], [start + length, edge + depth], [start, edge + depth]]
            )
            label = "field" if rng.random() < 0.6 else "grass"
            texture = axis + (0 if rng.random() < 0.5 else np.pi / 2)
            shapes.append(Shape(label, _turned(corners, axis), tone=float(rng.random()), angle=texture))
            start += length
        edge += depth


def _water(shapes: list[Shape], rng: np.random.Generator, side: float) -> None:
    """A river through the patch, a pond, or neither."""
    kind = rng.random()
    if kind < 0.3:
        angle, offset = rng.uniform(0, np.pi), rng.uniform(-0.3, 0.3) * side
        along = np.linspace(-side, side, 40)
        bend = offset + 0.09 * side * np.sin(along / side * rng.uniform(2, 5) + rng.uniform(0, 6))
        half = rng.uniform(0.035, 0.075) * side
        banks = np.concatenate([np.stack([along, bend + half], 1), np.stack([along, bend - half], 1)[::-1]])
        shapes.append(Shape("water", _turned(banks, angle), tone=float(rng.random())))
    elif kind < 0.6:
        turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        shore = rng.uniform(0.08, 0.18) * side
        radius = shore * (1 + sum(rng.uniform(0, 0.16) * np.sin(k * turn + rng.uniform(0, 6)) for k in (2, 3, 4)))
        pond = np.stack([radius * np.cos(turn), radius * np.sin(turn)], 1) + rng.uniform(-0.35, 0.35, 2) * side
        shapes.append(Shape("water", pond, tone=float(rng.random())))


def _roads(shapes: list[Shape], rng: np.random.Generator, side: float, axis: float) -> list[tuple[float, float, float]]:
    """One or two straight roads; (angle, offset from the origin, width) each."""
    roads = []
    for number in range(int(rng.integers(1, 3))):
        angle = axis + number * np.pi / 2 + rng.normal(0, 0.03)
        offset, width = float(rng.uniform(-0.32, 0.32)) * side, float(rng.uniform(6.0, 9.0))
        across = np.array([-np.sin(angle), np.cos(angle)])
        shapes.append(Shape("road", rectangle(offset * across, 3 * side, width, angle), tone=float(rng.random())))
        roads.append((float(angle), offset, width))
    return roads


def _houses(
    shapes: list[Shape],
    rng: np.random.Generator,
    side: float,
    axis: float,
    roads: list[tuple[float, float, float]],
) -> None:
    """Houses along the roads, each with two faces of its roof, some with a pool."""
    lakes = [shape.points for shape in shapes if shape.label == "water"]
    for angle, offset, width in roads:
        along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
        for place in np.arange(-side * 0.7, side * 0.7, 17.0):
            for bank in (-1, 1):
                if rng.random() > 0.45:
                    continue
                away = width / 2 + float(rng.uniform(8, 12))
                centre = along * (place + rng.uniform(-2, 2)) + across * (offset + bank * away)
                if _on_road(centre, roads, 7) or any(_near(centre, lake, 9) for lake in lakes):
                    continue
                turn = angle + rng.normal(0, 0.08) + (np.pi / 2 if rng.random() < 0.4 else 0)
                length, depth = float(rng.uniform(10, 15)), float(rng.uniform(7, 10))
                tone, height = float(rng.random()), float(rng.uniform(4, 8))
                normal = np.array([-np.sin(turn), np.cos(turn)]) * depth / 4
                lit, dark = (
                    rectangle(centre + normal, length, depth / 2, turn),
                    rectangle(centre - normal, length, depth / 2, turn),
                )
                shapes.append(Shape("roof", lit, height=height, tone=tone, angle=turn))
                shapes.append(Shape("roof", dark, height=height, tone=max(0.0, tone - 0.22), angle=turn))
                if rng.random() < 0.3:
                    garden = centre + across * bank * float(rng.uniform(11, 14))
                    if not _on_road(garden, roads, 6) and not any(_near(garden, lake, 6) for lake in lakes):
                        basin = rectangle(garden, float(rng.uniform(6, 9)), float(rng.uniform(3.5, 5)), turn)
                        shapes.append(Shape("pool", basin, tone=float(rng.random())))


def _on_road(point: np.ndarray, roads: list[tuple[float, float, float]], margin: float) -> bool:
    return any(
        abs(float(point @ np.array([-np.sin(angle), np.cos(angle)])) - offset) < width / 2 + margin
        for angle, offset, width in roads
    )


def _cars(
    shapes: list[Shape],
    rng: np.random.Generator,
    side: float,
    axis: float,
    roads: list[tuple[float, float, float]],
) -> None:
    for angle, offset, width in roads:
        along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
        for place in np.arange(-side * 0.7, side * 0.7, 11.0):
            if rng.random() < 0.3:
                lane = offset + float(rng.choice([-1, 1])) * width / 4
                centre = along * (place + rng.uniform(-3, 3)) + across * lane
                body = rectangle(centre, float(rng.uniform(4.2, 5.2)), 2.1, angle + rng.normal(0, 0.04))
                shapes.append(Shape("car", body, height=1.2, tone=float(rng.random()), angle=float(angle)))


def _trees(shapes: list[Shape], rng: np.random.Generator, side: float) -> None:
    """Single trees and a wood or two; each crown a disc."""
    covered = [shape for shape in shapes if shape.label in ("roof", "road", "water", "pool")]
    for _ in range(int(rng.integers(0, 3))):
        centre, spread = rng.uniform(-0.45, 0.45, 2) * side, rng.uniform(0.06, 0.12) * side
        for point in rng.normal(0, spread, (int(rng.integers(25, 60)), 2)) + centre:
            _tree(shapes, rng, point, covered)
    for point in rng.uniform(-0.5, 0.5, (int(rng.integers(8, 25)), 2)) * side:
        _tree(shapes, rng, point, covered)


def _tree(shapes: list[Shape], rng: np.random.Generator, point: np.ndarray, covered: list[Shape]) -> None:
    if any(_inside(point, shape.points) for shape in covered):
        return
    radius = float(rng.uniform(1.8, 4.2))
    shapes.append(Shape("tree", point[None], radius, 2 * radius, float(rng.random())))


def _near(point: np.ndarray, polygon: np.ndarray, margin: float) -> bool:
    """Whether a point lies in a polygon, or a corner of a diamond around it does."""
    around = margin * np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1], [0.7, 0.7], [-0.7, -0.7]])
    return any(_inside(point + step, polygon) for step in around)


def _inside(point: np.ndarray, polygon: np.ndarray) -> bool:
    return cv2.pointPolygonTest(polygon.astype(np.float32), (float(point[0]), float(point[1])), False) >= 0
