"""Any picture to 8-bit RGB."""

from __future__ import annotations

import hashlib
import io
import math
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError
from pillow_heif import register_heif_opener

from seg_zero.errors import InputError, one_line

if TYPE_CHECKING:
    import torch

ImageLike: TypeAlias = "str | Path | bytes | Image.Image | np.ndarray | torch.Tensor"

# HEIC, what phones take. Nothing but the picture itself is read; its rotation is applied by the decoder.
register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)

MAX_PIXELS = 120_000_000  # above this a file is taken for a decompression bomb; cameras of phones reach 108 million
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # Pillow's own limit is lower
LOSSY = ("JPEG", "MPO", "HEIF")  # Pillow's names of formats that change pixels
FLOAT_SLACK = 1e-3
# By EXIF orientation. Pillow's exif_transpose writes the EXIF data anew, which fails for values that Pillow can read
# but not write, such as a signed fraction in the place of an unsigned one.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def pixel_hash(image: Image.Image) -> bytes:
    """Of the size and pixels of an RGB image, 16 bytes."""
    return hashlib.blake2b(image.tobytes(), digest_size=16, salt=f"{image.width}".encode()).digest()


def load_image(source: ImageLike, at_most: int | None = None) -> Image.Image:
    """Read a path, encoded bytes, PIL image, array or tensor as RGB.

    Files may be of any format that Pillow reads, and HEIC. Arrays are H x W x 3 (RGB), H x W x 4 (RGBA) or H x W
    (grey); tensors are 3 x H x W (RGB), on any device; both are uint8, or floats from 0 to 1. EXIF rotation is applied,
    transparency is laid on white, 16-bit grey and float TIFFs are scaled to 8 bits, CMYK and palettes are converted.
    ``at_most``: pixels; larger images are reduced to :func:`fitted_size`, JPEGs while they are decoded. Raises
    InputError for a missing, unreadable, empty or oversized image, and for an array or a tensor of another shape, dtype
    or range.
    """
    if (torch := sys.modules.get("torch")) is not None and isinstance(source, torch.Tensor):
        source = _array_of_tensor(source)
    name = str(source) if isinstance(source, str | Path) else f"<{type(source).__name__}>"
    try:
        image = _opened(source, name)
        if image.width < 1 or image.height < 1:
            raise InputError(f"image {name} has size {image.width}x{image.height}; it has no pixels")
        if image.width * image.height > MAX_PIXELS:
            raise InputError(
                f"image {name} has {image.width}x{image.height} pixels; the limit is {MAX_PIXELS:,}: make it smaller"
            )
        turn = _TURNS.get(_orientation(image))
        if at_most is not None and image.width * image.height > at_most:
            image = _reduced(image, fitted_size(image.size, at_most))
        found = _to_rgb(image if turn is None else image.transpose(turn))
        found.info = {}  # else the result would be turned again where it is read again
        return found
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(f"image {name} has too many pixels; the limit is {MAX_PIXELS:,}: make it smaller") from error
    except UnidentifiedImageError as error:  # Pillow's own message names the buffer's address
        raise InputError(f"image {name} cannot be read (unknown format); save it again as JPEG or PNG") from error
    except Exception as error:  # decoders raise anything for damaged files, RuntimeError and struct.error included
        raise InputError(f"image {name} cannot be read ({one_line(error)}); save it again as JPEG or PNG") from error


def _opened(source: ImageLike, name: str) -> Image.Image:
    """The image, not yet decoded if it is encoded."""
    if isinstance(source, Image.Image):
        return source
    if isinstance(source, np.ndarray):
        return Image.fromarray(_eight_bit(source))
    if isinstance(source, bytes):
        if not source:
            raise InputError("image <bytes> holds 0 bytes; give an encoded picture")
        return Image.open(io.BytesIO(source))
    if not isinstance(source, str | Path):
        raise InputError(f"image {name} is no picture; give a path, bytes, a PIL image, an array or a tensor")
    path = Path(source)
    if not path.exists():
        raise InputError(f"image {name} does not exist; check the path")
    if not path.is_file():
        raise InputError(f"image {name} is a folder; give one image file")
    if path.stat().st_size == 0:
        raise InputError(f"image {name} is an empty file; save it again")
    return Image.open(path)


def fitted_size(size: tuple[int, int], pixels: int) -> tuple[int, int]:
    """(width, height) of the same shape with at most so many pixels; ``size`` itself if it has no more."""
    width, height = size
    if width * height <= pixels:
        return size
    # A strip keeps one pixel of its short side, and gives up of its long one.
    scale = math.sqrt(pixels / (width * height))
    short = max(1, int(min(size) * scale))
    long = min(max(1, int(max(size) * scale)), max(1, pixels // short))
    return (long, short) if width >= height else (short, long)


def size_as_shown(image: Image.Image) -> tuple[int, int]:
    """Width and height of an opened image once its EXIF rotation is applied; nothing is decoded."""
    return image.size if _orientation(image) < 5 else (image.height, image.width)


def _orientation(image: Image.Image) -> int:
    found = image.getexif().get(ExifTags.Base.Orientation, 1)
    return found if isinstance(found, int) else 1


def _reduced(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The image as RGB of a smaller (width, height), before rotation."""
    if image.format in ("JPEG", "MPO"):
        image.draft(image.mode, size)  # decoded at 1/2, 1/4 or 1/8, if that is enough
    return _to_rgb(image).resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _array_of_tensor(tensor: torch.Tensor) -> np.ndarray:
    """A 3 x H x W tensor as an H x W x 3 array."""
    if tensor.ndim != 3 or tensor.shape[0] != 3:
        raise InputError(f"image tensor has shape {tuple(tensor.shape)}; give 3 x H x W (RGB)")
    if tensor.is_floating_point():
        tensor = tensor.float()  # numpy has no bfloat16
    return tensor.detach().permute(1, 2, 0).cpu().numpy()


def _eight_bit(array: np.ndarray) -> np.ndarray:
    """An array of a supported shape, dtype and range as uint8."""
    shape = array.shape
    if array.ndim != 2 and (array.ndim != 3 or shape[2] not in (3, 4)):
        hint = "; this looks like channels first: array.transpose(1, 2, 0)" if shape[:1] == (3,) else ""
        raise InputError(f"image array has shape {shape}; give H x W x 3 (RGB) or H x W (grey){hint}")
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype.kind != "f":
        raise InputError(f"image array has dtype {array.dtype}; give uint8, or floats from 0 to 1")
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    # Interpolation leaves a little beyond the range; NaN fails both comparisons.
    if not (low >= -FLOAT_SLACK and high <= 1 + FLOAT_SLACK):
        raise InputError(f"image array of floats reaches from {low:g} to {high:g}; give values from 0 to 1")
    return (np.clip(array, 0, 1) * 255).round().astype(np.uint8)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":  # 16/32-bit grey: Pillow's convert would clip at 255
        values = np.asarray(image, dtype=np.float64)
        if not np.isfinite(values).all():
            raise ValueError("not all of its pixels are finite numbers")
        highest = values.max(initial=0)
        top = 65535.0 if highest > 255 else 255.0
        if image.mode == "F" and highest <= 1 + FLOAT_SLACK:
            top = 1.0
        return Image.fromarray((np.clip(values / top, 0, 1) * 255).round().astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def encode_png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
