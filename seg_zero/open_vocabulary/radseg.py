"""RADSeg's encoder under the names and shapes of the original, for code written for it and for ``torch.hub``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from seg_zero.devices import choose_device
from seg_zero.encoders.radio_versions import PATCH
from seg_zero.encoders.sam_decoder import SamDecoder
from seg_zero.encoders.text import TextEncoder
from seg_zero.errors import InputError
from seg_zero.open_vocabulary.labels import parse_labels, texts_and_classes
from seg_zero.open_vocabulary.mask_sources import radio_sam_source
from seg_zero.open_vocabulary.probabilities import (
    PixelLabels,
    class_probabilities,
    full_probabilities,
    kept_classes,
    pixel_labels,
    with_ignore_channel,
)
from seg_zero.open_vocabulary.refinement import RefinementSettings, refine
from seg_zero.open_vocabulary.segmenter import OpenVocabularySegmenter
from seg_zero.open_vocabulary.windows import network_size

LABELS, PROMPTS = "labels", "prompts"
IGNORED = ""  # the name of class 0


class RadSegEncoder:
    """Features of images, or with ``predict`` their class probabilities.

    model_version: see :func:`seg_zero.encoders.radio.load_radio`; lang_model: an adaptor of it.
    predict: encode images to probabilities of ``classes``; these may also be set by :meth:`encode_labels` or
        :meth:`encode_prompts` at any time. text_query_mode: "labels" puts classes into the 80 ImageNet templates,
        "prompts" takes them as they are.
    prediction_thresh, prompt_denoising_thresh, slide_crop, slide_stride: threshold, denoising, crop and stride of
        :class:`seg_zero.open_vocabulary.settings.Settings`; None: the backbone's own windows, 336 and 224 as in the
        original for published ones. Denoising is per image, the original's per batch.
    sam_refinement: RADSeg+ with the SAM-1 ``sam_ckpt``, a folder or hub id of transformers; ``coarse_thresh``,
        ``minimal_area``, ``sam_iou_thresh``: see :class:`seg_zero.open_vocabulary.refinement.RefinementSettings`.
    sam_mask_coff: the factor of the mask prompt. return_radio_features: False gives features in the space of the text.
    amp: half precision on CUDA.
    Raises InputError for what cannot be had.
    """

    def __init__(
        self,
        model_version: str | Path = "c-radio_v3-b",
        lang_model: str = "siglip2",
        *,
        device: str | None = None,
        scra_scaling: float | None = 10.0,
        scga_scaling: float | None = 10.0,
        predict: bool = False,
        classes: Sequence[str] | None = None,
        text_query_mode: str = LABELS,
        prediction_thresh: float = 0.0,
        prompt_denoising_thresh: float = 0.5,
        slide_crop: int | None = None,
        slide_stride: int | None = None,
        sam_refinement: bool = False,
        sam_ckpt: str | Path = "facebook/sam-vit-huge",
        coarse_thresh: float = 0.1,
        minimal_area: int = 225,
        sam_iou_thresh: float = 0.9,
        sam_mask_coff: float = 0.005,
        return_radio_features: bool = True,
        amp: bool = False,
    ) -> None:
        if text_query_mode not in (LABELS, PROMPTS):
            raise InputError(f"text_query_mode {text_query_mode!r} is unknown; choose labels or prompts")
        self.mask_coefficient, self.return_radio_features = sam_mask_coff, return_radio_features
        self.refinement = RefinementSettings(coarse_thresh, minimal_area, sam_iou_thresh)
        self.segmenter = OpenVocabularySegmenter.from_pretrained(
            model_version,
            lang_model,
            device=device,
            dtype="float16" if amp and choose_device(device).startswith("cuda") else "float32",
            scra_scaling=scra_scaling,
            scga_scaling=scga_scaling,
            crop=slide_crop,
            stride=slide_stride,
            denoising=prompt_denoising_thresh,
            threshold=prediction_thresh,
            templates="imagenet" if text_query_mode == LABELS else "none",
        )
        self.predict = predict
        self.sam = SamDecoder(sam_ckpt, self.segmenter.encoder.device) if sam_refinement else None
        tower = self.segmenter.tower
        self._encoders = {LABELS: TextEncoder(tower, "imagenet"), PROMPTS: TextEncoder(tower, "none")}
        self._names: list[str] = []
        self._text: tuple[torch.Tensor, list[int]] | None = None
        if classes is not None:
            self._set_classes(classes, text_query_mode)

    @property
    def num_classes(self) -> int:
        """How many classes there are, with the ignored one, number 0."""
        return len(self._names) + 1

    @property
    def cat_index_to_name(self) -> dict[int, str]:
        return dict(enumerate([IGNORED, *self._names]))

    @property
    def cat_name_to_index(self) -> dict[str, int]:
        return {name: index for index, name in self.cat_index_to_name.items()}

    def encode_labels(self, labels: Sequence[str]) -> torch.Tensor:
        """n labels to n x E, each in the 80 ImageNet templates; with ``predict`` see :meth:`encode_prompts`."""
        return self._encode(labels, LABELS)

    def encode_prompts(self, prompts: Sequence[str]) -> torch.Tensor:
        """n texts, as they are, to n x E.

        With ``predict`` images are encoded to probabilities, so texts become n x num_classes, a 1 at the class of
        each; they become the classes unless all of them are classes already.
        """
        return self._encode(prompts, PROMPTS)

    def encode_image_to_feat_map(
        self,
        img: torch.Tensor,
        orig_img_size: tuple[int, int] | None = None,
        return_preds: bool = False,
        ignore_label: bool = True,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """B x 3 x H x W images in 0..1 to B x D x h x w features, or with ``predict`` to probabilities at
        ``orig_img_size`` (height, width; default: that of the images).

        ignore_label: an empty channel first (B x (T+1) x H x W), and labels from 1 with 0 for pixels below
        ``prediction_thresh``; else T channels and labels from 0. return_preds: also the labels, B x 1 x H x W.
        """
        features = self.segmenter.features(img)
        if not self.predict:
            if return_preds:
                raise InputError("return_preds needs an encoder made with predict=True")
            return features if self.return_radio_features else self.segmenter.project(features)
        size = orig_img_size or (img.shape[-2], img.shape[-1])
        both = [
            self._predicted(image, part[None], size, ignore_label) for image, part in zip(img, features, strict=True)
        ]
        probabilities, labels = torch.cat([one for one, _ in both]), torch.cat([one for _, one in both])
        return (probabilities, labels) if return_preds else probabilities

    def align_spatial_features_with_language(self, features: torch.Tensor, onehot: bool = True) -> torch.Tensor:
        """B x D x h x w features to B x E x h x w in the space of the text. With ``predict`` features are probabilities
        and texts one-hot, so that with ``onehot`` they stay as they are."""
        aligned = onehot if self.predict else not self.return_radio_features
        return features if aligned else self.segmenter.project(features)

    def is_compatible_size(self, h: int, w: int) -> bool:
        """Whether both sides are multiples of a patch."""
        return h % PATCH == 0 and w % PATCH == 0

    def get_nearest_size(self, h: int, w: int) -> tuple[int, int]:
        """The nearest height and width that are."""
        return network_size(h, w, 0, 0, self.segmenter.encoder.longest_side)

    def _encode(self, texts: Sequence[str], mode: str) -> torch.Tensor:
        if not self.predict:
            return self._vectors(list(texts), mode)
        if not set(texts) <= set(self._names):
            self._set_classes(texts, mode)
        numbers = torch.tensor([self.cat_name_to_index[text] for text in texts], device=self.segmenter.encoder.device)
        return torch.nn.functional.one_hot(numbers, self.num_classes).float()

    def _set_classes(self, texts: Sequence[str], mode: str) -> None:
        every, numbers = texts_and_classes(parse_labels(texts))
        self._text = self._vectors(every, mode), numbers
        self._names = list(texts)

    def _vectors(self, texts: list[str], mode: str) -> torch.Tensor:
        return self._encoders[mode].encode(texts).to(self.segmenter.encoder.device)

    @torch.inference_mode()
    def _predicted(
        self, image: torch.Tensor, features: torch.Tensor, size: tuple[int, int], ignore_label: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Probabilities 1 x T x H x W (or T+1) and labels 1 x 1 x H x W of one image."""
        if self._text is None:
            raise InputError("there are no classes yet; give classes=, or call encode_labels with them")
        settings = self.segmenter.settings
        patches = class_probabilities(self.segmenter.project(features), *self._text)
        kept = kept_classes(patches, size, settings.denoising)
        found = pixel_labels(patches, size, kept)
        full = full_probabilities(patches, size, kept)
        if self.sam is not None:
            threshold = self.refinement.coarse_threshold
            source = radio_sam_source(self.segmenter.encoder, self.sam, image, threshold, self.mask_coefficient)
            refined = refine(full[0], found.labels[0], source, self.refinement)
            full, found = refined.scores[None], PixelLabels(refined.labels[None], found.confidence)
        if not ignore_label:
            return full, found.labels[:, None]
        return with_ignore_channel(full), found.with_ignored(settings.threshold)[:, None]
