"""An untrusted upload to an image and a question."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image

from seg_zero.errors import InputError, one_line
from seg_zero.images import load_image
from seg_zero.prompting import check_question
from seg_zero.serving.service import Refused

# Pillow's other formats are rare, and one of them starts Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "MPO")


@dataclass(frozen=True)
class Limits:
    """What one request may hold: bytes of the whole body, pixels of the image, characters of the question."""

    upload_bytes: int = 20 << 20
    pixels: int = 16_000_000
    question_chars: int = 2000


def read_question(question: str, limits: Limits) -> str:
    """The question as it came. Raises Refused (422) for one that is empty, too long or holds control tokens."""
    if len(question) > limits.question_chars:
        raise Refused(422, f"the question has {len(question)} characters; the limit is {limits.question_chars}")
    try:
        check_question(question)
    except InputError as error:
        raise Refused(422, str(error)) from error
    return question


def read_image(data: bytes, limits: Limits) -> Image.Image:
    """The encoded picture as RGB. Raises Refused: 413 for too many pixels, by its header alone, 422 if unreadable."""
    if not data:
        raise Refused(422, "the image holds 0 bytes; send an encoded picture")
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise Refused(413, f"the image has too many pixels; the limit is {limits.pixels:,}") from error
    except Exception as error:  # Pillow's decoders raise many types on damaged files
        kinds = ", ".join(FORMATS[:-1])
        raise Refused(422, f"the image cannot be read (unknown or damaged format); send one of {kinds}") from error
    if picture.width * picture.height > limits.pixels:
        size = f"{picture.width}x{picture.height}"
        raise Refused(413, f"the image has {size} pixels; the limit is {limits.pixels:,}, make it smaller")
    try:
        picture.load()  # here, where Pillow's own reason can still be told
        return load_image(picture)
    except Exception as error:
        reason = one_line(error)
        raise Refused(422, f"the image cannot be decoded ({reason}); save it again as JPEG or PNG") from error
