"""A room of boxes and spheres, and its exact depth, ids and colours from any pose, by casting rays."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

CLASSES = {1: "floor", 2: "wall", 3: "box", 4: "sphere"}
_FAR = 1e9


@dataclass(frozen=True)
class Thing:
    """A box (half edges ``half``, turned by ``turn`` radians about the vertical) or a sphere (radius ``half[0]``).

    identity: class * 1000 + instance, as in ground truth of the ScanNet benchmark. Metres; z points up.
    """

    identity: int
    centre: tuple[float, float, float]
    half: tuple[float, float, float]
    turn: float
    colour: tuple[int, int, int]

    @property
    def round(self) -> bool:
        return self.identity // 1000 == 4


@dataclass(frozen=True)
class View:
    """What a camera sees: depth float32 H x W in metres, ids int32 H x W, colour uint8 H x W x 3."""

    depth: np.ndarray
    ids: np.ndarray
    colour: np.ndarray


@dataclass(frozen=True)
class Room:
    """Floor, walls and things on the floor. size: of the floor in metres along x and y."""

    things: tuple[Thing, ...]
    size: tuple[float, float]

    def look(self, intrinsics: np.ndarray, pose: np.ndarray, width: int, height: int) -> View:
        """Cast one ray through every pixel centre; pose: camera to world, x right, y down, z forward."""
        u, v = np.meshgrid(np.arange(width), np.arange(height))
        x = (u - intrinsics[0, 2]) / intrinsics[0, 0]
        y = (v - intrinsics[1, 2]) / intrinsics[1, 1]
        rays = np.stack([x, y, np.ones_like(x)], axis=-1) @ pose[:3, :3].T
        origin = pose[:3, 3]
        depth = np.full((height, width), _FAR)
        ids = np.zeros((height, width), dtype=np.int32)
        colour = np.zeros((height, width, 3))
        for thing in self.things:
            distance, shade = (_sphere if thing.round else _box)(thing, origin, rays)
            nearer = distance < depth
            depth[nearer] = distance[nearer]
            ids[nearer] = thing.identity
            colour[nearer] = np.array(thing.colour) * shade[nearer, None]
        depth[depth >= _FAR] = 0  # the ray's z is 1, so distances along it are depths
        return View(depth.astype(np.float32), ids, colour.clip(0, 255).astype(np.uint8))


def _box(thing: Thing, origin: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance along each ray to a box, and how light its side is; the slab method."""
    cos, sin = np.cos(thing.turn), np.sin(thing.turn)
    axes = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    start = axes @ (origin - np.array(thing.centre))
    along = rays @ axes.T
    with np.errstate(divide="ignore", invalid="ignore"):
        low = (-np.array(thing.half) - start) / along
        high = (np.array(thing.half) - start) / along
    entries = np.minimum(low, high)
    enter, leave = entries.max(-1), np.maximum(low, high).min(-1)
    hit = (enter > 1e-6) & (enter < leave)
    shade = np.array([0.75, 0.9, 1.0])[entries.argmax(-1)]
    return np.where(hit, enter, np.inf), shade


def _sphere(thing: Thing, origin: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    start, radius = origin - np.array(thing.centre), thing.half[0]
    a, b, c = (rays**2).sum(-1), rays @ start, start @ start - radius**2
    inside = b**2 - a * c
    with np.errstate(invalid="ignore"):
        distance = (-b - np.sqrt(inside)) / a
    hit = (inside > 0) & (distance > 1e-6)
    up = (start[2] + distance * rays[..., 2]) / radius
    return np.where(hit, distance, np.inf), np.where(hit, 0.8 + 0.2 * up, 1.0)


def make_room(seed: int = 0, boxes: int = 8, spheres: int = 4, size: tuple[float, float] = (5.0, 4.0)) -> Room:
    """A closed room with so many boxes and spheres at random, none touching another."""
    rng = np.random.default_rng(seed)
    wide, deep = size
    thick, high = 0.05, 2.4
    things = [Thing(1001, (0, 0, -thick), (wide / 2, deep / 2, thick), 0, (150, 140, 130))]
    for number, (x, y, half_x, half_y) in enumerate(
        [
            (-wide / 2 - thick, 0, thick, deep / 2),
            (wide / 2 + thick, 0, thick, deep / 2),
            (0, -deep / 2 - thick, wide / 2, thick),
            (0, deep / 2 + thick, wide / 2, thick),
        ]
    ):
        shade = 185 + 15 * number
        things.append(Thing(2001 + number, (x, y, high / 2), (half_x, half_y, high / 2), 0, (shade, shade, shade)))
    places: list[tuple[float, float, float]] = []
    for number in range(boxes + spheres):
        is_sphere = number >= boxes
        half = (rng.uniform(0.2, 0.3),) * 3 if is_sphere else tuple(rng.uniform([0.15, 0.15, 0.2], [0.4, 0.4, 0.6]))
        reach = half[0] if is_sphere else float(np.hypot(half[0], half[1]))
        for _ in range(200):
            x = rng.uniform(-wide / 2 + reach, wide / 2 - reach)
            y = rng.uniform(-deep / 2 + reach, deep / 2 - reach)
            if all(np.hypot(x - a, y - b) > reach + c + 0.1 for a, b, c in places):
                break
        else:
            continue  # the room is full
        places.append((x, y, reach))
        identity = (4001 if is_sphere else 3001) + (number - boxes if is_sphere else number)
        colour = colorsys.hsv_to_rgb((0.618 * number) % 1, 0.75, 0.9)
        things.append(
            Thing(
                identity,
                (x, y, half[2] if not is_sphere else half[0]),
                half,
                0 if is_sphere else rng.uniform(0, np.pi),
                tuple(int(255 * part) for part in colour),  # type: ignore[arg-type]
            )
        )
    return Room(tuple(things), size)


def look_at(eye: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The pose 4 x 4 (camera to world) of a level camera at ``eye`` that looks at ``target``."""
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3] = right, np.cross(forward, right), forward, eye
    return pose
