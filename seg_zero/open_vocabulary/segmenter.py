"""The public face: words go in, a labelled picture comes out.

segmenter = OpenVocabularySegmenter.from_pretrained("c-radio_v3-b")
result = segmenter.segment("photo.jpg", ["sky", "cat, kitten"])
result.label_map, result.overlay(), result.probabilities()
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from seg_zero.encoders.radio import TINY, Adaptor, RadioEncoder, load_radio
from seg_zero.encoders.radio_versions import PositionRule
from seg_zero.encoders.sam_decoder import SamDecoder
from seg_zero.encoders.text import TextEncoder
from seg_zero.encoders.text_towers import TextTower, load_tower
from seg_zero.errors import InputError
from seg_zero.extras import EXTRAS, require
from seg_zero.images import ImageLike, load_image
from seg_zero.open_vocabulary.aggregation import aggregate
from seg_zero.open_vocabulary.attention import use_self_correlation
from seg_zero.open_vocabulary.labels import Label, parse_labels, texts_and_classes
from seg_zero.open_vocabulary.mask_sources import SegmenterSource, radio_sam_source
from seg_zero.open_vocabulary.probabilities import class_probabilities, kept_classes, pixel_labels
from seg_zero.open_vocabulary.refinement import MaskSource, RefinementSettings, refine
from seg_zero.open_vocabulary.result import LabelledImage
from seg_zero.open_vocabulary.settings import Settings
from seg_zero.open_vocabulary.windows import feature_map, network_size, windows
from seg_zero.segmenter import Segmenter

IMAGES_KEPT = 4  # pictures whose features are remembered


class OpenVocabularySegmenter:
    """A frozen RADIO backbone with an adaptor to a text tower. Settings may be replaced at any time by :meth:`change`.

    Features of the last ``images_kept`` pictures are remembered: the same picture with other labels costs only the text
    side.
    """

    images_kept = IMAGES_KEPT

    def __init__(
        self, encoder: RadioEncoder, adaptor: Adaptor, tower: TextTower, settings: Settings | None = None
    ) -> None:
        self.encoder, self.adaptor, self.tower = encoder, adaptor, tower
        self._plain_attention: Any = encoder.backbone.blocks[-1].attn
        self._features: OrderedDict[tuple[str, Settings], torch.Tensor] = OrderedDict()
        self._labels: list[Label] | None = None
        self.refiner: Segmenter | SamDecoder | None = None
        self._refinement = RefinementSettings()
        self.settings = settings or Settings()
        self._text = TextEncoder(tower, self.settings.templates)
        self.change(self.settings)

    @classmethod
    def from_pretrained(
        cls,
        backbone: str | Path = TINY,
        adaptor: str = "siglip2",
        *,
        labels: Sequence[str] | None = None,
        device: str | None = None,
        dtype: str | None = None,
        position_rule: PositionRule = "torch_hub",
        **settings: Any,
    ) -> OpenVocabularySegmenter:
        """Load a backbone (:func:`seg_zero.encoders.radio.load_radio`) and the text tower of one of its adaptors.

        labels: see :meth:`set_labels`. settings: fields of :class:`seg_zero.open_vocabulary.settings.Settings`.
        Raises InputError for what cannot be had.
        """
        require("labelling pixels by text", EXTRAS["open-vocabulary"])
        try:
            chosen = Settings(**settings)
        except TypeError as error:
            raise InputError(f"settings: {error}; known are {', '.join(Settings.__dataclass_fields__)}") from None
        encoder = load_radio(backbone, device, dtype, position_rule)
        head = encoder.adaptor(adaptor)
        tower = load_tower(head.info.type, head.info.model, head.info.pretrained, str(encoder.device))
        made = cls(encoder, head, tower, chosen)
        if labels is not None:
            made.set_labels(labels)
        return made

    def change(self, settings: Settings) -> None:
        """Use other settings from now on. Raises InputError for windows that the backbone cannot take."""
        image, longest = self.encoder.description.image, self.encoder.longest_side
        crop, _ = settings.windows(image.crop, image.stride)
        if crop > longest:
            raise InputError(f"crop {crop} is above {longest}, the longest side that this backbone takes; give less")
        if settings.scra_scaling is None:
            self.encoder.backbone.blocks[-1].attn = self._plain_attention
        else:
            use_self_correlation(self.encoder.backbone, settings.scra_scaling)
        if settings.templates != self.settings.templates:
            self._text = TextEncoder(self.tower, settings.templates)
        self.settings = settings

    def set_labels(self, labels: Sequence[str]) -> None:
        """The labels of later calls of :meth:`segment`; each a text, or synonyms with commas: ["sky", "cat, kitten"].

        Raises InputError for labels that are empty, repeated or too many.
        """
        self._labels = parse_labels(labels)

    def refine_with(self, refiner: Segmenter | SamDecoder | None, settings: RefinementSettings | None = None) -> None:
        """Redraw the edges of later label maps (RADSeg+).

        refiner: a segmenter of :mod:`seg_zero.segmenter`; SAM-1's decoder, fed with the backbone's sam adaptor; None:
        no refinement. Raises InputError if the backbone has no such adaptor.
        """
        if isinstance(refiner, SamDecoder):
            self.encoder.adaptor("sam")
        self.refiner, self._refinement = refiner, settings or RefinementSettings()

    def segment(self, image: ImageLike, labels: Sequence[str] | None = None) -> LabelledImage:
        """Label every pixel of a picture.

        labels: for this call alone; None: those of :meth:`set_labels`. Raises InputError if there are none, and for
        a picture that cannot be read.
        """
        parsed = parse_labels(labels) if labels is not None else self._labels
        if parsed is None:
            raise InputError("there are no labels yet; give them to segment or set_labels, such as ['sky', 'grass']")
        picture = load_image(image)
        texts, classes = texts_and_classes(parsed)
        size = (picture.height, picture.width)
        with torch.inference_mode():
            patches = class_probabilities(self.text_space(picture), self.encode_texts(texts), classes)
            kept = kept_classes(patches, size, self.settings.denoising)
            found = pixel_labels(patches, size, kept)
        result = LabelledImage(
            picture,
            tuple(parsed),
            patches[0].float().cpu().numpy(),
            kept.cpu().numpy(),
            found.labels[0].to(torch.int32).cpu().numpy(),
            found.confidence[0].float().cpu().numpy(),
            self.settings.threshold,
        )
        return result if self.refiner is None else self._refined(result)

    @torch.inference_mode()
    def _refined(self, result: LabelledImage) -> LabelledImage:
        probabilities, labels = torch.from_numpy(result.probabilities()), torch.from_numpy(result.classes).long()
        source: MaskSource
        if isinstance(self.refiner, SamDecoder):
            image = self.prepare(result.image)
            source = radio_sam_source(self.encoder, self.refiner, image, self._refinement.coarse_threshold)
        else:
            assert self.refiner is not None
            source = SegmenterSource(self.refiner, result.image)
        found = refine(probabilities, labels, source, self._refinement)
        return replace(result, classes=found.labels.to(torch.int32).numpy(), refined=found.scores.numpy())

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """n texts to n x E in the templates of the settings."""
        return self._text.encode(texts).to(self.encoder.device)

    def text_space(self, picture: Image.Image) -> torch.Tensor:
        """A picture's features in the space of the text, 1 x E x h x w; remembered by its pixels."""
        pixels = np.asarray(picture)
        digest = hashlib.sha256(pixels.tobytes()).hexdigest() + str(pixels.shape)
        # What comes after the features does not change them.
        key = (digest, replace(self.settings, templates="none", denoising=0.0, threshold=0.0))
        if key not in self._features:
            self._features[key] = self.project(self.features(self.prepare(picture)[None]))
            while len(self._features) > self.images_kept:
                self._features.popitem(last=False)
        self._features.move_to_end(key)
        return self._features[key]

    def prepare(self, picture: Image.Image) -> torch.Tensor:
        """An RGB picture as 3 x H x W in 0..1: filling the frame ``fit``, or else its shorter side as the backbone
        wants it and its longer one at most ``max_side``."""
        short, limit = self.encoder.description.image.short_side, self.settings.max_side
        if self.settings.fit is not None:
            limit, short = self.settings.fit
        scale = 1.0 if short is None else short / min(picture.size)
        scale = min(scale, limit / max(picture.size))
        if scale != 1.0:
            width, height = (max(1, round(side * scale)) for side in picture.size)
            picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        array = torch.from_numpy(np.array(picture)).to(self.encoder.device)
        return array.permute(2, 0, 1).float() / 255

    @torch.inference_mode()
    def features(self, images: torch.Tensor) -> torch.Tensor:
        """B x 3 x H x W images in 0..1 to B x D x h x w features of the backbone, windows and aggregation done."""
        own = self.encoder.description.image
        crop, stride = self.settings.windows(own.crop, own.stride)
        found = feature_map(images, self.encoder.features, crop, stride, longest=self.encoder.longest_side)
        when, scaling = self.settings.scga_when, self.settings.scga_scaling
        size = network_size(images.shape[-2], images.shape[-1], crop, stride, self.encoder.longest_side)
        if scaling is None or (when == "multi_window" and len(windows(*size, crop, stride)) < 2):
            return found
        return aggregate(found, scaling)

    @torch.inference_mode()
    def project(self, features: torch.Tensor) -> torch.Tensor:
        """B x D x h x w features to B x E x h x w by the head that the adaptor has for the class token."""
        tokens = self.adaptor.summary(features.permute(0, 2, 3, 1).to(self.encoder.dtype))
        return tokens.permute(0, 3, 1, 2).float()
