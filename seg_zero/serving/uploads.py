"""An untrusted upload to an image and a question."""

from __future__ import annotations

import io
import threading
from contextlib import nullcontext
from dataclasses import dataclass

from PIL import Image

from seg_zero.errors import InputError, one_line
from seg_zero.images import MAX_PIXELS, load_image, size_as_shown
from seg_zero.prompting import check_question
from seg_zero.serving.service import Refused

# Pillow's other formats are rare, and one of them starts Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "HEIF", "BMP", "GIF", "TIFF", "MPO")
KINDS = "JPEG, PNG, WEBP, HEIC, BMP, GIF or TIFF"
_one_large = threading.Lock()  # large pictures are decoded one after another, since each takes up to 1 GB while it is


@dataclass(frozen=True)
class Limits:
    """What one request may hold: bytes of the whole body, characters of the question.

    pixels: of the image that the models see; larger ones are reduced to it, those above MAX_PIXELS refused.
    """

    upload_bytes: int = 20 << 20
    pixels: int = 16_000_000
    question_chars: int = 2000


def read_question(question: str, limits: Limits) -> str:
    """The question as it came. Raises Refused (422) for one that is empty, too long, lost or holds control tokens."""
    if len(question) > limits.question_chars:
        raise Refused(422, f"the question has {len(question)} characters; the limit is {limits.question_chars}")
    if "\ufffd" in question:
        raise Refused(
            422, "the question is not UTF-8, or holds U+FFFD, which stands for text that was lost; send UTF-8"
        )
    try:
        check_question(question)
    except InputError as error:
        raise Refused(422, str(error)) from error
    return question


@dataclass(frozen=True)
class Upload:
    """A picture that was sent: RGB, maybe reduced, and the (width, height) that it was sent with, once upright."""

    image: Image.Image
    size: tuple[int, int]

    @property
    def scale(self) -> tuple[float, float]:
        """By what coordinates in ``image`` are multiplied to be those of the picture that was sent."""
        return self.size[0] / self.image.width, self.size[1] / self.image.height


def read_image(data: bytes, limits: Limits) -> Upload:
    """The encoded picture as RGB. Raises Refused: 413 for too many pixels, by its header alone, 422 if unreadable."""
    if not data:
        raise Refused(422, "the image holds 0 bytes; send an encoded picture")
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise Refused(413, f"the image has too many pixels; the limit is {MAX_PIXELS:,}, make it smaller") from error
    except Exception as error:  # Pillow's decoders raise many types on damaged files
        raise Refused(422, f"the image cannot be read (unknown or damaged format); send {KINDS}") from error
    if picture.width * picture.height > MAX_PIXELS:
        size = f"{picture.width}x{picture.height}"
        raise Refused(413, f"the image has {size} pixels; the limit is {MAX_PIXELS:,}, make it smaller")
    large = picture.width * picture.height > limits.pixels
    try:
        size_shown = size_as_shown(picture)
        with _one_large if large else nullcontext():
            return Upload(load_image(picture, limits.pixels), size_shown)
    except Exception as error:
        reason = one_line(error.__cause__ or error)
        raise Refused(422, f"the image cannot be decoded ({reason}); save it again as JPEG or PNG") from error
