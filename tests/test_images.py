"""Reading whatever picture a user has."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seg_zero.errors import InputError
from seg_zero.images import load_image


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F", "I;16"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray(np.full((5, 7), 65535, dtype=np.uint16))
    else:
        image = Image.new("L" if mode in "IF" else "RGB", (7, 5), "white").convert(mode)
    read = load_image(image)
    assert (read.mode, read.size) == ("RGB", (7, 5))
    assert np.asarray(read).min() >= 254


def test_16_bit_png_keeps_its_greys() -> None:
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    read = np.asarray(load_image(encoded(Image.fromarray(ramp), "PNG")))[..., 0]
    assert np.abs(read.astype(float) - ramp / 257).max() <= 1


def test_cmyk_jpeg_is_read() -> None:
    assert load_image(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG")).getpixel((4, 4))[0] > 200


def test_transparency_is_laid_on_white() -> None:
    assert load_image(Image.new("RGBA", (4, 4), (255, 0, 0, 0))).getpixel((1, 1)) == (255, 255, 255)


def test_exif_rotation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert load_image(encoded(Image.new("RGB", (20, 10)), "JPEG", exif=exif)).size == (10, 20)


def test_bad_files_are_named_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("not a picture")
    whole = encoded(Image.effect_noise((64, 64), 90).convert("RGB"), "JPEG")
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    for name, words in {
        "none.png": "does not exist",
        "empty.png": "empty file",
        "text.jpg": "cannot be read",
        "cut.jpg": "cannot be read",
        "": "folder",
    }.items():
        with pytest.raises(InputError, match=words) as caught:
            load_image(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize("array", [np.zeros((4, 4, 3)), np.zeros(4, np.uint8), np.zeros((0, 5, 3), np.uint8)])
def test_bad_arrays_are_refused(array: np.ndarray) -> None:
    with pytest.raises(InputError):
        load_image(array)
