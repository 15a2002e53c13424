"""Flips and zooms a picture together with its boxes, points and masks.

A :class:`View` is a window into the stored image, possibly mirrored. It moves pixels and coordinates by whole
pixels, so it neither blurs nor shifts anything. Which augmentations are allowed depends on the question:

* **Mirroring** would make the answer to "the left cup" wrong. It is disabled for questions that name a side, a
  turning direction, an order ("the second": people count from the left) or anything to be read, and for questions
  in a language without a word list here.
* **Zooming out** (grey around the picture) removes nothing, so it is always allowed. The picture is placed at
  random in the grey, or at its centre if the question refers to the frame ("centre", "corner").
* **Zooming in** crops. It needs targets, all of which stay whole, and a question about
  them alone: after the cut, "the second from the top", "the smallest" (a cut neighbour looks smaller), "the one
  beside the lamp" could have another answer or none.

The word lists cover English and Chinese; in five more languages they contain only the sides, so leave scale_jitter
at 0 for those. Cues outside the words (which side of the road cars keep to) are not detected.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from seg_zero.errors import InputError
from seg_zero.objects import PromptObject

GREY = (128, 128, 128)
MAX_SCALE_JITTER = 0.5


def _listed(words: str) -> frozenset[str]:
    return frozenset(words.split())


_SIDE = re.compile(
    r"(top|bottom|upper|lower|far|mid|middle|center|centre|back|front|rear)?"
    r"(left|right|lft|rgt|lhs|rhs)(most|hand|handed|hander|side|ward|wards|er|y|ies|s)?"
    r"|(north|south)?(east|west)(ern|erly|ward|wards|bound|most)?"
    r"|(anti|counter)?clockwise"
    r"|link[es]?|linke[mnrs]|rechts|rechte[mnrs]?|gauche|droite?|izquierd[ao]s?|derech[ao]s?"
    r"|sinistr[aio]|destr[aio]|esquerd[ao]s?|direit[ao]s?"
)
_MIRRORED = _listed(
    # abbreviations and sides
    "l r rt lt port starboard clock clocks watch "
    # anything to be read
    "text word words letter letters number numbers numbered digit digits say says saying read reads reading "
    "write writes written writing spell spells spelled spelt spelling label labels labeled labelled marked "
    "logo logos brand sign signs title titled caption inscription jersey plate"
)
_ORDER = _listed("first second third fourth fifth sixth seventh eighth ninth tenth last next previous order row column")
_FRAME = _listed(
    "center centre central centered centred middle mid corner corners edge edges border borders frame half "
    "quarter quadrant side image picture photo screen cut cropped visible partially partly"
)
_CONTEXT = _listed(
    # relations and comparisons; "all", "every", "both" are not here, since every target stays in the picture
    "more less than fewer other others another only rest remaining except between among amid near nearby close "
    "beside besides by behind above below under over underneath beneath beyond opposite facing towards toward "
    "around across against along adjacent on in inside outside into onto touching holding wearing "
    "same different similar like compared count group pair top bottom upper lower front back foreground background "
    "smaller bigger larger shorter longer taller thinner thicker wider narrower nearer closer farther further "
    "higher darker lighter brighter younger older"
)
_SUPERLATIVE = re.compile(r"most|least|\w{2,}(est|most)")

_CHINESE_MIRRORED = re.compile(
    "[左右字写寫读讀号號第钟鐘]|时针|時針|[东東西][侧側边邊面方部南北]|[南北][东東西]|标志|標誌|商标|商標"
)
_CHINESE_CONTEXT = re.compile("[最第比更边邊旁间間上下前后後里裡内內外中在和与與每都其]")
_CHINESE_FRAME = re.compile("[中央角边邊缘緣半]|画面|畫面|图|圖")
_IDEOGRAPH = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]")
_QUOTES = frozenset('"“”„«»「」『』')


@dataclass(frozen=True)
class Augmentation:
    """How much pictures vary from epoch to epoch; by default, not at all.

    flip: probability of a horizontal flip, 0..1, where the question allows one.
    scale_jitter: the zoom is drawn between 1 - scale_jitter and 1 + scale_jitter; 0..0.5.
    """

    flip: float = 0.0
    scale_jitter: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.flip <= 1:
            raise InputError(f"flip {self.flip} is not a probability; give 0 (never) to 1 (whenever allowed)")
        if not 0 <= self.scale_jitter <= MAX_SCALE_JITTER:
            raise InputError(f"scale_jitter {self.scale_jitter} is not within 0..{MAX_SCALE_JITTER}; try 0.25")


@dataclass(frozen=True)
class View:
    """A window into a stored image, mirrored after it is cut out.

    window: left, top, right, bottom in pixels of the stored image, right and bottom exclusive. What reaches
    outside is grey in pictures and 0 in masks.
    """

    window: tuple[int, int, int, int]
    flipped: bool = False

    def __post_init__(self) -> None:
        left, top, right, bottom = self.window
        if any(int(edge) != edge for edge in self.window) or left >= right or top >= bottom:
            raise ValueError(f"window {self.window} is not left < right, top < bottom in whole pixels")

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture."""
        left, top, right, bottom = self.window
        return right - left, bottom - top

    def picture(self, image: Image.Image) -> Image.Image:
        """The window of the stored image (RGB), as the view shows it."""
        picture = Image.new("RGB", self.size, GREY)
        picture.paste(image.convert("RGB"), (-self.window[0], -self.window[1]))
        return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if self.flipped else picture

    def mask(self, mask: np.ndarray) -> np.ndarray:
        """The window of a stored H x W mask (boolean, or labels such as 0, 1, 255), of the same type."""
        left, top, right, bottom = self.window
        height, width = mask.shape
        seen = np.zeros((bottom - top, right - left), dtype=mask.dtype)
        x1, y1, x2, y2 = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
        if x1 < x2 and y1 < y2:
            seen[y1 - top : y2 - top, x1 - left : x2 - left] = mask[y1:y2, x1:x2]
        return seen[:, ::-1].copy() if self.flipped else seen

    def to_view(self, obj: PromptObject) -> PromptObject:
        """An object in pixels of the stored image, in pixels of the picture.

        Coordinates are pixel indexes, boxes inclusive: a flip maps x to width - 1 - x and swaps x1 and x2.
        """
        left, top = self.window[:2]
        moved = _moved(obj, -left, -top)
        return _mirrored(moved, self.size[0]) if self.flipped else moved

    def to_image(self, obj: PromptObject) -> PromptObject:
        """The inverse of :meth:`to_view`."""
        left, top = self.window[:2]
        return _moved(_mirrored(obj, self.size[0]) if self.flipped else obj, left, top)


def _moved(obj: PromptObject, dx: int, dy: int) -> PromptObject:
    box = obj.box
    if box is not None:
        box = (box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy)
    return PromptObject(box, tuple((x + dx, y + dy) for x, y in obj.points))


def _mirrored(obj: PromptObject, width: int) -> PromptObject:
    box = obj.box
    if box is not None:
        box = (width - 1 - box[2], box[1], width - 1 - box[0], box[3])
    return PromptObject(box, tuple((width - 1 - x, y) for x, y in obj.points))


def _words(question: str) -> set[str]:
    return set(re.findall(r"[a-z]+", question.lower()))


def _language_known(question: str) -> bool:
    """Plain Latin letters and Chinese characters only: the scripts whose words are listed above."""
    return all(c.isascii() or not c.isalpha() or _IDEOGRAPH.match(c) for c in question)


def _names_a_side(words: set[str]) -> bool:
    return any(_SIDE.fullmatch(word) for word in words)


def may_flip(question: str) -> bool:
    """Whether the mirrored picture has the mirrored answer, judging by the words of the question."""
    words = _words(question)
    return (
        _language_known(question)
        and not words & (_MIRRORED | _ORDER)
        and not _names_a_side(words)
        and not _CHINESE_MIRRORED.search(question)
        and not any(c.isdigit() or c in _QUOTES for c in question)
    )


def may_zoom_in(question: str) -> bool:
    """Whether the answer depends on the targets alone, judging by the words of the question."""
    words = _words(question)
    return (
        _language_known(question)
        and not words & (_ORDER | _FRAME | _CONTEXT)
        and not _names_a_side(words)
        and not any(_SUPERLATIVE.fullmatch(word) for word in words)
        and not any(p.search(question) for p in (_CHINESE_CONTEXT, _CHINESE_FRAME, _CHINESE_MIRRORED))
        and not any(c.isdigit() for c in question)
    )


def whole(size: tuple[int, int]) -> View:
    """The view that shows a stored image of (width, height) as it is."""
    return View((0, 0, *size))


def _extent(objects: Sequence[PromptObject], axis: int, length: int) -> tuple[int, int] | None:
    """First and one past the last pixel of all boxes and points along x (0) or y (1); None without any."""
    values = [p[axis] for o in objects for p in (*([] if o.box is None else (o.box[:2], o.box[2:])), *o.points)]
    if not values:
        return None
    low, high = int(np.floor(min(values))), int(np.floor(max(values))) + 1
    return min(max(low, 0), length - 1), min(max(high, 1), length)


def choose_view(
    size: tuple[int, int],
    objects: Sequence[PromptObject],
    question: str,
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> View:
    """Draw a view of a stored image of (width, height) whose targets are ``objects``, in its pixels.

    Both sides are zoomed alike. Where zooming in is not allowed (see the top of this file) a draw above 1
    leaves the picture as it is; where the targets are too large for it, it zooms in as far as they allow.
    Without augmentation the view is :func:`whole` and ``rng`` is not used.
    """
    flipped = augmentation.flip > 0 and bool(rng.random() < augmentation.flip) and may_flip(question)
    zoom = 1.0
    if augmentation.scale_jitter > 0:
        zoom = float(rng.uniform(1 - augmentation.scale_jitter, 1 + augmentation.scale_jitter))
    extents = [_extent(objects, axis, length) for axis, length in enumerate(size)]
    if zoom > 1:
        for extent, length in zip(extents, size, strict=True):
            zoom = 1.0 if extent is None or not may_zoom_in(question) else min(zoom, length / (extent[1] - extent[0]))
    if zoom == 1:
        return View((0, 0, *size), flipped)
    centred = bool(_words(question) & _FRAME) or bool(_CHINESE_FRAME.search(question))
    starts, ends = [], []
    for extent, length in zip(extents, size, strict=True):
        side = max(1, round(length / zoom))
        if zoom > 1 and extent is not None:
            side = max(side, extent[1] - extent[0])  # rounding must not cut
            low, high = max(0, extent[1] - side), min(extent[0], length - side)
        else:
            low, high = length - side, 0
        start = (length - side) // 2 if zoom < 1 and centred else int(rng.integers(low, high + 1))
        starts.append(start)
        ends.append(start + side)
    return View((starts[0], starts[1], ends[0], ends[1]), flipped)
