"""A trained remote-sensing model as a function of pictures and class names.

segmenter = RemoteSensingSegmenter.from_pretrained("outputs/remote_sensing")
segmenter.probabilities(image, ["building", "road", "water"])     # 3 x H x W
segmenter.segment("tile.png", ["building", "road", "water"]).overlay()
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seg_zero.devices import choose_device, choose_dtype
from seg_zero.errors import InputError
from seg_zero.images import ImageLike, load_image
from seg_zero.open_vocabulary.labels import Label, parse_labels
from seg_zero.open_vocabulary.probabilities import pixel_labels, upsampled
from seg_zero.open_vocabulary.result import LabelledImage
from seg_zero.remote_sensing.class_names import check_names
from seg_zero.remote_sensing.model.decoder import costs_of
from seg_zero.remote_sensing.model.files import load_network
from seg_zero.remote_sensing.model.inference import (
    as_tensor,
    cell_probabilities,
    joined,
    network_input,
    scaled,
    windows,
)
from seg_zero.remote_sensing.model.loss import Compat
from seg_zero.remote_sensing.model.network import RemoteSensingNetwork
from seg_zero.remote_sensing.model.settings import ModelSettings


class RemoteSensingSegmenter:
    """Probabilities of classes at each pixel.

    sliding: each picture also in four windows at 640 x 640, whose mean is averaged with that of the whole.
    compat: "ours", or "released", which pads pictures as the published code does.
    dtype: of matrix products (autocast); the weights stay in float32.
    """

    def __init__(
        self,
        network: RemoteSensingNetwork,
        *,
        sliding: bool = False,
        compat: Compat = "ours",
        classes: Sequence[str] = (),
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.network, self.sliding, self.compat, self.classes = network, sliding, compat, tuple(classes)
        self.dtype = dtype

    @classmethod
    def from_pretrained(
        cls,
        folder_or_file: str | Path,
        device: str | None = None,
        *,
        sliding: bool = False,
        compat: Compat = "ours",
        settings: ModelSettings | None = None,
        dtype: str | torch.dtype | None = None,
    ) -> RemoteSensingSegmenter:
        """From a folder of a training (its best checkpoint), one checkpoint's folder, or a published file.

        dtype: None for bfloat16 on CUDA, else float32. Raises InputError for anything else, and for a published file
        of another size than ``settings``.
        """
        place = choose_device(device)
        precision = choose_dtype(dtype, place)
        network, config = load_network(folder_or_file, settings)
        network.requires_grad_(False)
        classes = config.get("classes", ())
        return cls(network.to(place), sliding=sliding, compat=compat, classes=classes, dtype=precision)

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def autocast(self) -> AbstractContextManager[object]:
        """The precision of its calls: in float32 nothing, so that the one around, such as a training's, stays."""
        return nullcontext() if self.dtype == torch.float32 else torch.autocast(self.device.type, self.dtype)

    def probabilities(self, image: np.ndarray, labels: Sequence[str]) -> np.ndarray:
        """H x W x 3 uint8 and T names to T x H x W float32; each from 0 to 1, not summing to 1."""
        return self.probabilities_batch([image], labels)[0]

    @torch.inference_mode()
    def probabilities_batch(self, images: Sequence[np.ndarray], labels: Sequence[str]) -> list[np.ndarray]:
        """The same of several pictures of any sizes; their numbers do not depend on each other.

        Raises InputError for a picture that is not H x W x 3 uint8, and for names that are empty or alike.
        """
        found = self._maps(images, labels)
        return [_array(upsampled(maps, image.shape[:2])[0]) for image, maps in zip(images, found, strict=True)]

    @torch.inference_mode()
    def segment(self, image: ImageLike, labels: Sequence[str], threshold: float = 0.0) -> LabelledImage:
        """Label every pixel of a picture, seen as a whole; a large tile is for
        :func:`seg_zero.remote_sensing.geo.segment.segment_tile`, which sees it in windows.

        Of synonyms ("road, street") the first counts, and the result has it alone. threshold: pixels whose highest
        probability is below have no label. Raises InputError for labels that are empty or repeated, and for a picture
        that cannot be read.
        """
        names = [label.name for label in parse_labels(labels)]
        picture = load_image(image)
        (maps,) = self._maps([np.asarray(picture)], names)
        kept = torch.ones(len(names), dtype=torch.bool, device=maps.device)
        found = pixel_labels(maps, (picture.height, picture.width), kept)
        return LabelledImage(
            picture,
            tuple(Label((name,)) for name in names),
            _array(maps[0]),
            kept.cpu().numpy(),
            found.labels[0].to(torch.int32).cpu().numpy(),
            _array(found.confidence[0]),
            threshold,
        )

    def _maps(self, images: Sequence[np.ndarray], labels: Sequence[str]) -> list[torch.Tensor]:
        """Of each picture the probabilities in the resolution of the network's cells, 1 x T x h x w."""
        check_names(labels)
        for image in images:
            if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
                raise InputError(f"a picture is {image.dtype} {image.shape}; give H x W x 3 of uint8")
        training = self.network.training
        self.network.eval()
        try:
            with self.autocast():
                if self.sliding:
                    return [self._slid(image, labels) for image in images]
                return self._whole(images, labels)
        finally:
            self.network.train(training)

    @torch.inference_mode()
    def cost_maps(self, image: np.ndarray, labels: Sequence[str]) -> np.ndarray:
        """Cosines of every place with every text, K x T x h x w in CLIP's grid: one map for each direction, rotated
        back, then DINO's if the network has it. :mod:`seg_zero.remote_sensing.cost_pictures` draws them."""
        check_names(labels)
        pixels = network_input(as_tensor(scaled(image), self.device), self.network.normalised, self.compat)
        with self.autocast():
            found = costs_of(self.network.features(pixels), self.network.texts(labels))
        return _array(torch.cat([part[0] for part in found if part is not None]))

    def _whole(self, images: Sequence[np.ndarray], labels: Sequence[str]) -> list[torch.Tensor]:
        network, found = self.network, []
        sizes, squares = [], []
        for image in images:
            # Images that the network sees at more than its own side are scaled first, so that shrinking antialiases.
            pixels = as_tensor(scaled(image), self.device)
            sizes.append((int(pixels.shape[2]), int(pixels.shape[3])))
            squares.append(network_input(pixels, network.normalised, self.compat))
        for group in _same_size(squares):
            features = network.features(torch.cat([squares[index] for index in group]))
            logits = network.decoder(features, network.texts(labels))
            for index, own in zip(group, logits, strict=True):
                found.append((index, cell_probabilities(own[None], sizes[index], self.compat)))
        return [maps for _, maps in sorted(found, key=lambda pair: pair[0])]

    def _slid(self, image: np.ndarray, labels: Sequence[str]) -> torch.Tensor:
        return joined(self.network(windows(as_tensor(scaled(image), self.device)), labels))


def _same_size(tensors: Sequence[torch.Tensor]) -> list[list[int]]:
    """Numbers of the tensors, those of one shape together."""
    groups: dict[Any, list[int]] = {}
    for number, tensor in enumerate(tensors):
        groups.setdefault(tensor.shape, []).append(number)
    return list(groups.values())


def _array(maps: torch.Tensor) -> np.ndarray:
    return maps.float().cpu().numpy()
