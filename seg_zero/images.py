"""Any picture a user has to 8-bit RGB."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from seg_zero.errors import InputError

ImageLike = str | Path | bytes | Image.Image | np.ndarray

MAX_PIXELS = 100_000_000  # above this a file is taken for a decompression bomb


def load_image(source: ImageLike) -> Image.Image:
    """Read a path, encoded bytes, PIL image or uint8 array (H x W x 3, or H x W grey) as RGB.

    EXIF rotation is applied, transparency is laid on white, 16-bit grey is scaled to 8 bits, CMYK and
    palettes are converted. Raises InputError for a missing, unreadable, empty or oversized image.
    """
    name = str(source) if isinstance(source, str | Path) else f"<{type(source).__name__}>"
    try:
        if isinstance(source, Image.Image):
            image = source
        elif isinstance(source, np.ndarray):
            if source.dtype != np.uint8 or source.ndim not in (2, 3):
                raise InputError(f"image array has dtype {source.dtype} and shape {source.shape}; give uint8 H x W x 3")
            image = Image.fromarray(source)
        elif isinstance(source, bytes):
            image = Image.open(io.BytesIO(source))
        else:
            path = Path(source)
            if not path.exists():
                raise InputError(f"image {name} does not exist; check the path")
            if not path.is_file():
                raise InputError(f"image {name} is a folder; give one image file")
            if path.stat().st_size == 0:
                raise InputError(f"image {name} is an empty file; save it again")
            image = Image.open(path)
        if image.width < 1 or image.height < 1:
            raise InputError(f"image {name} has size {image.width}x{image.height}; it has no pixels")
        if image.width * image.height > MAX_PIXELS:
            raise InputError(f"image {name} has {image.width}x{image.height} pixels; the limit is {MAX_PIXELS:,}")
        return _to_rgb(ImageOps.exif_transpose(image))
    except InputError:
        raise
    except UnidentifiedImageError as error:  # Pillow's own message names the buffer's address
        raise InputError(f"image {name} cannot be read (unknown format); save it again as JPEG or PNG") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"image {name} cannot be read ({error}); save it again as JPEG or PNG") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":  # 16/32-bit grey: Pillow's convert would clip at 255
        values = np.asarray(image, dtype=np.float64)
        top = 65535.0 if values.max(initial=0) > 255 else 255.0
        return Image.fromarray((np.clip(values / top, 0, 1) * 255).round().astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")
