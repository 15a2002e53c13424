"""Two sensors that see the synthetic world: another ground resolution, other colours, other noise and light."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from seg_zero.errors import InputError
from seg_zero.metrics.semantic import IGNORE
from seg_zero.remote_sensing.data.aerial.world import CLASSES, Patch, Shape

_FINE = 4  # subpixels along a side, from which pictures are averaged
Colour = tuple[int, int, int]

# Two ends of the colours of each class as the first sensor sees them.
_COLOURS: dict[str, tuple[Colour, Colour]] = {
    "grass": ((112, 138, 72), (142, 158, 92)),
    "field": ((176, 156, 106), (126, 108, 78)),
    "road": ((122, 122, 124), (146, 144, 142)),
    "roof": ((126, 62, 48), (190, 104, 76)),
    "tree": ((38, 74, 40), (66, 98, 52)),
    "water": ((38, 68, 88), (58, 92, 106)),
    "car": ((228, 228, 230), (150, 26, 34)),
    "pool": ((74, 186, 208), (104, 208, 222)),
}


@dataclass(frozen=True)
class Sensor:
    """metres: side of a pixel on the ground; matrix, offset: from the colours above to its own; noise: standard
    deviation of a pixel; blur: of the optics, in pixels; shadow: brightness in the shadow."""

    name: str
    metres: float
    matrix: np.ndarray
    offset: np.ndarray
    noise: float
    blur: float
    shadow: float


SENSORS: dict[str, Sensor] = {
    # A survey plane in summer: sharp, warm.
    "plane": Sensor("plane", 0.5, np.eye(3), np.zeros(3), 5.0, 0.5, 0.62),
    # A satellite: coarser, hazy, bluish, less colour.
    "satellite": Sensor(
        "satellite",
        0.8,
        np.array([[0.62, 0.16, 0.06], [0.10, 0.66, 0.10], [0.06, 0.18, 0.70]]),
        np.array([26.0, 30.0, 40.0]),
        7.0,
        0.8,
        0.75,
    ),
}


def sensor_named(name: str) -> Sensor:
    """Raises InputError for another name."""
    if name not in SENSORS:
        raise InputError(f"sensor {name!r} is unknown; choose one of {', '.join(SENSORS)}")
    return SENSORS[name]


def render(patch: Patch, sensor: Sensor, size: int) -> tuple[np.ndarray, np.ndarray]:
    """size x size x 3 uint8 and size x size uint8 labels, indices of ``CLASSES``, of the middle of a patch."""
    names = list(SENSORS)
    number = names.index(sensor.name) if sensor.name in names else len(names)
    rng = np.random.default_rng([patch.seed, number, size])
    fine = size * _FINE
    scale = _FINE / sensor.metres  # subpixels in a metre
    picture, labels = np.zeros((fine, fine, 3), np.float32), np.zeros((fine, fine), np.uint8)
    fall = np.array([np.cos(patch.sun), np.sin(patch.sun)])
    for shape in patch.shapes:
        if shape.height and (found := _mask(shape, fine, scale, 0.45 * shape.height * fall)) is not None:
            picture[found[0]][found[1]] *= sensor.shadow
        found = _mask(shape, fine, scale)
        if found is None:
            continue
        box, inside = found
        picture[box][inside] = _texture(shape, box, scale, fine, rng)[inside]
        labels[box][inside] = CLASSES.index(shape.label)
    if sensor.blur:
        cv2.GaussianBlur(picture, (0, 0), sensor.blur * _FINE, dst=picture)
    small = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
    seen = small @ sensor.matrix.T + sensor.offset
    haze = cv2.resize(rng.normal(0, 5, (4, 4)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    seen += haze[..., None] + rng.normal(0, sensor.noise, seen.shape)
    return seen.round().clip(0, 255).astype(np.uint8), labels[_FINE // 2 :: _FINE, _FINE // 2 :: _FINE].copy()


def kept_labels(labels: np.ndarray, classes: tuple[str, ...]) -> np.ndarray:
    """Labels as indices of ``classes``; those of other classes are ignored."""
    table = np.full(256, IGNORE, np.uint8)
    for number, name in enumerate(classes):
        table[CLASSES.index(name)] = number
    return table[labels]


Box = tuple[slice, slice]  # rows and columns


def _mask(shape: Shape, fine: int, scale: float, shift: np.ndarray | None = None) -> tuple[Box, np.ndarray] | None:
    """The subpixels of a shape moved by ``shift`` metres: where they lie, and which they are; None outside."""
    points = (shape.points + (0 if shift is None else shift)) * scale + fine / 2
    if shape.radius:
        turn = np.linspace(0, 2 * np.pi, 28, endpoint=False)
        wave = 1 + 0.05 * np.sin(5 * turn + 20 * shape.tone) + 0.06 * np.sin(9 * turn + 50 * shape.tone)
        points = points[0] + shape.radius * scale * wave[:, None] * np.stack([np.cos(turn), np.sin(turn)], 1)
    corners = np.round(points).astype(np.int32)
    (left, top), (right, bottom) = corners.min(axis=0).clip(0, fine), (corners.max(axis=0) + 1).clip(0, fine)
    if left >= right or top >= bottom:
        return None
    drawn = np.zeros((bottom - top, right - left), np.uint8)
    cv2.fillPoly(drawn, [corners - (left, top)], 1)
    return ((slice(int(top), int(bottom)), slice(int(left), int(right))), drawn.astype(bool)) if drawn.any() else None


def _texture(shape: Shape, box: Box, scale: float, fine: int, rng: np.random.Generator) -> np.ndarray:
    """float32 h x w x 3, the colours of a shape within its box of subpixels."""
    first, second = (np.array(colour, np.float32) for colour in _COLOURS[shape.label])
    height, width = box[0].stop - box[0].start, box[1].stop - box[1].start
    y, x = np.mgrid[box[0], box[1]].astype(np.float32)
    y, x = (y - fine / 2) / scale, (x - fine / 2) / scale  # metres
    across = -x * np.sin(shape.angle) + y * np.cos(shape.angle)
    colour = first + (second - first) * shape.tone
    shade = np.zeros((height, width), np.float32)
    if shape.label == "field":
        shade += (9 if shape.tone > 0.3 else 3) * np.sin(across * 2 * np.pi / (1.6 + 2.4 * shape.tone))
    if shape.label in ("field", "grass", "water", "tree"):
        cells = (max(2, height // 24), max(2, width // 24))
        rough = {"field": 6, "grass": 8, "water": 3, "tree": 14}[shape.label]
        coarse = rng.normal(0, rough, cells).astype(np.float32)
        shade += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    if shape.label == "tree":
        # A crown is bright on one side.
        centre = shape.points[0]
        shade += 9 * ((x - centre[0]) - (y - centre[1])) / shape.radius
    if shape.label == "roof":
        shade += 5 * np.sign(np.sin(across * 2 * np.pi / 0.9))
    if shape.label == "car":
        along = x * np.cos(shape.angle) + y * np.sin(shape.angle)
        middle = shape.points.mean(axis=0)
        place = along - float(middle[0] * np.cos(shape.angle) + middle[1] * np.sin(shape.angle))
        shade -= np.where((np.abs(place - 0.9) < 0.35) | (np.abs(place + 1.2) < 0.3), 90, 0)  # windows
    return colour + shade[..., None]
