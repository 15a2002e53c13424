"""Atomic writing: a file is there whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from PIL import Image


def write_bytes(path: Path, data: bytes) -> None:
    """Write through a temporary file beside ``path``; missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        partial.write_bytes(data)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_image(path: Path, image: Image.Image) -> None:
    """Write a picture in the format of the file's ending (PNG if it has none that Pillow knows)."""
    from io import BytesIO

    suffix = path.suffix.lower()
    kind = Image.registered_extensions().get(suffix, "PNG")
    buffer = BytesIO()
    image.save(buffer, format=kind)
    write_bytes(path, buffer.getvalue())
