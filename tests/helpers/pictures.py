"""Pictures as bytes of a file."""

from __future__ import annotations

import io

from PIL import Image


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """The file of an image in a format of Pillow, written with its ``options``."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
