"""The image processor handles each image once, instead of twice per sampled answer.

verl's rollout calls the processor for the prompt of each answer, and once more for the tensors of its update.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from cachetools import LRUCache
from PIL import Image
from transformers import BatchFeature

KEEP_BYTES = 256 << 20  # 15 images of 840 x 840 pixels; each rollout worker keeps as much


class ProcessedImages:
    """Replaces ``image_processor.preprocess``; repeated images with the same settings return the earlier result.

    Calls from several threads are serialised, so that simultaneous answers share one result. The arrays are shared
    too: do not modify them.
    """

    def __init__(self, preprocess: Callable[..., BatchFeature], keep_bytes: int = KEEP_BYTES) -> None:
        self._preprocess = preprocess
        self._kept: LRUCache[bytes, dict[str, Any]] = LRUCache(keep_bytes, _size)
        self._lock = threading.Lock()

    def __call__(self, images: Any, *args: Any, **kwargs: Any) -> BatchFeature:
        pictures = [images] if isinstance(images, Image.Image) else images
        if args or not isinstance(pictures, Sequence) or not all(isinstance(one, Image.Image) for one in pictures):
            return self._preprocess(images, *args, **kwargs)
        key = _key(pictures, kwargs)
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                found = dict(self._preprocess(images, **kwargs))
                if _size(found) <= self._kept.maxsize:
                    self._kept[key] = found
        return BatchFeature(data=dict(found))


def process_once(image_processor: Any) -> None:
    """Make an image processor cache its results; a second call has no effect."""
    if not isinstance(image_processor.preprocess, ProcessedImages):
        image_processor.preprocess = ProcessedImages(image_processor.preprocess)


def _key(images: Sequence[Image.Image], settings: dict[str, Any]) -> bytes:
    state = hashlib.blake2b(repr(sorted(settings.items())).encode(), digest_size=32)
    for image in images:
        state.update(f"{image.mode} {image.size}".encode())
        state.update(np.ascontiguousarray(image).data)
    return state.digest()


def _size(features: dict[str, Any]) -> int:
    return sum(getattr(value, "nbytes", 0) for value in features.values())
