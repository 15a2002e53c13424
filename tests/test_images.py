"""Reading whatever picture a user has."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.pictures import encoded, png_header
from PIL import ExifTags, Image, ImageOps

from seg_zero.errors import InputError
from seg_zero.images import MAX_PIXELS, fitted_size, load_image, size_as_shown


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


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_heic_is_read_upright(orientation: int, tmp_path: Path) -> None:
    """Encoders turn the EXIF orientation into a property of the file, which the decoder applies: not a second time."""
    picture = Image.new("RGB", (64, 32), "navy")
    picture.paste("orange", (0, 0, 16, 16))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    (tmp_path / "phone.HEIC").write_bytes(encoded(picture, "HEIF", exif=exif.tobytes(), quality=100))
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded(picture, "PNG", exif=exif))))
    read = load_image(tmp_path / "phone.HEIC")
    assert read.size == expected.size == size_as_shown(Image.open(tmp_path / "phone.HEIC"))
    assert np.abs(np.asarray(read, dtype=int) - np.asarray(expected)).mean() < 6


def test_a_damaged_heic_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "cut.heic").write_bytes(encoded(Image.effect_noise((64, 64), 90).convert("RGB"), "HEIF")[:700])
    with pytest.raises(InputError, match=r"cut.heic cannot be read") as caught:
        load_image(tmp_path / "cut.heic")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "HEIF"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_picture_is_reduced_and_keeps_its_shape(kind: str, orientation: int) -> None:
    picture = Image.new("RGB", (800, 400), "navy")
    picture.paste("orange", (0, 0, 400, 400))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = encoded(picture, kind, exif=exif.tobytes())
    assert load_image(data, at_most=800 * 400).size == load_image(data).size
    reduced = load_image(data, at_most=20_000)
    assert reduced.size == ((200, 100) if orientation == 1 else (100, 200))
    orange = reduced.getpixel((20, 20))
    assert orange[0] > 200 and orange[2] < 60
    assert load_image(Image.new("1", (300, 300), 1), at_most=100).getpixel((5, 5)) == (255, 255, 255)


@pytest.mark.parametrize("size", [(1, 1), (300, 200), (4000, 3000), (1, 9000), (9000, 2), (12032, 9024)])
@pytest.mark.parametrize("pixels", [1, 100, 65_537])
def test_a_fitted_size_is_within_the_limit_and_of_the_same_shape(size: tuple[int, int], pixels: int) -> None:
    width, height = fitted_size(size, pixels)
    assert 1 <= width * height <= pixels and width <= size[0] and height <= size[1]
    if size[0] * size[1] <= pixels:
        assert (width, height) == size
    elif min(width, height) > 50:
        assert abs(width / height - size[0] / size[1]) < 0.03


@pytest.mark.filterwarnings("ignore:Image size")  # pytest forgets the filter of seg_zero.images
@pytest.mark.parametrize("size", [(12_000, 10_001), (40_000, 40_000)])
def test_a_decompression_bomb_is_refused_with_the_limit(size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=f"pixels; the limit is {MAX_PIXELS:,}: make it smaller$"):
        load_image(png_header(*size))


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


def test_arrays_and_tensors_of_every_supported_kind_give_the_same_picture() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    opaque = np.dstack([pixels, np.full((6, 9), 255, dtype=np.uint8)])
    for source in (pixels, pixels / 255, pixels.astype(np.float32) / 255, opaque, tensor, tensor / 255.0, pixels[::1]):
        assert np.array_equal(np.asarray(load_image(source)), pixels)
    assert np.array_equal(np.asarray(load_image(pixels[:, ::-1])), pixels[:, ::-1])
    coarse = np.asarray(load_image((tensor / 255.0).bfloat16()))
    assert np.abs(coarse.astype(int) - pixels).max() <= 1
    grey = np.asarray(load_image(pixels[..., 0] / 255))
    assert np.array_equal(grey, np.repeat(pixels[..., :1], 3, axis=2))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (np.zeros(4, np.uint8), r"shape \(4,\); give H x W x 3"),
        (np.zeros((3, 8, 9), np.uint8), r"transpose\(1, 2, 0\)"),
        (np.zeros((1, 8, 9, 3), np.uint8), "shape"),
        (np.zeros((8, 9, 2), np.uint8), "shape"),
        (np.zeros((0, 5, 3), np.uint8), "no pixels|cannot be read"),
        (np.zeros((0, 5, 3)), "no pixels|cannot be read"),
        (np.zeros((4, 4, 3), np.uint16), "dtype uint16"),
        (np.zeros((4, 4), bool), "dtype bool"),
        (np.full((4, 4, 3), 255.0), "from 255 to 255; give values from 0 to 1"),
        (np.full((4, 4, 3), -0.5), "from -0.5"),
        (np.full((4, 4, 3), np.nan), "nan"),
        (torch.zeros(8, 9, 3), r"tensor has shape \(8, 9, 3\); give 3 x H x W"),
        (torch.zeros(1, 3, 8, 9), "tensor has shape"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), "dtype int64"),
        (torch.full((3, 4, 4), 255.0), "from 255 to 255"),
        (b"", "0 bytes"),
        (b"rubbish", "cannot be read"),
        (None, "<NoneType> is no picture"),
        ([[1, 2], [3, 4]], "<list> is no picture"),
    ],
)
def test_other_inputs_are_refused_by_name(source: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_image(source)


@pytest.mark.parametrize("orientation", range(9))
def test_exif_rotation_is_that_of_pillow(orientation: int) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (3, 5, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stored = encoded(picture, "PNG", exif=exif)
    assert load_image(stored).tobytes() == ImageOps.exif_transpose(Image.open(io.BytesIO(stored))).tobytes()


def test_exif_that_cannot_be_written_back_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> bytes:
        raise struct.error("argument out of range")

    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    stored = encoded(Image.new("RGB", (9, 4), "red"), "JPEG", exif=exif)
    monkeypatch.setattr(Image.Exif, "tobytes", fails)
    assert load_image(stored).size == (4, 9)


@pytest.mark.parametrize("error", [RuntimeError("no frame"), struct.error("short"), IndexError(), ZeroDivisionError()])
def test_whatever_a_decoder_raises_is_one_line(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Image.Image, "convert", fails)
    with pytest.raises(InputError, match=r"cannot be read .*save it again as JPEG or PNG"):
        load_image(encoded(Image.new("L", (3, 3)), "PNG"))


def test_tiffs_of_floats_are_scaled_from_0_to_1(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    Image.fromarray(values).save(tmp_path / "a.tif")
    expected = (values * 255).round().astype(np.uint8)
    assert np.array_equal(np.asarray(load_image(tmp_path / "a.tif"))[..., 0], expected)
    Image.fromarray(values * 255).save(tmp_path / "b.tif")
    assert np.array_equal(np.asarray(load_image(tmp_path / "b.tif"))[..., 0], expected)
    values[1, 1] = np.nan
    Image.fromarray(values).save(tmp_path / "c.tif")
    with pytest.raises(InputError, match=r"c.tif cannot be read \(not all of its pixels are finite"):
        load_image(tmp_path / "c.tif")


@pytest.mark.parametrize("turn", range(2, 9))
def test_a_picture_that_was_read_is_not_turned_again(turn: int, tmp_path: Path) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = turn
    path = tmp_path / "turned.png"
    picture.save(path, exif=exif)
    once = load_image(path)
    assert np.array_equal(np.asarray(load_image(once)), np.asarray(once))
    assert once.size == ((6, 9) if turn > 4 else (9, 6))
    buffer = io.BytesIO()
    once.save(buffer, format="PNG")
    assert np.array_equal(np.asarray(load_image(buffer.getvalue())), np.asarray(once))
