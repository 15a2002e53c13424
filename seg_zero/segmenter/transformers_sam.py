"""SAM 2, SAM 2.1 and the tracker of SAM 3 by transformers, for weights in its format."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers import AutoImageProcessor, PreTrainedModel, Sam2Model, Sam3TrackerModel
from transformers.utils import logging

from seg_zero.errors import InputError, one_line
from seg_zero.hub import check_shapes, load_model
from seg_zero.segmenter.files import SAM3_TYPES, TransformersFiles
from seg_zero.segmenter.prompted import PromptedSegmenter
from seg_zero.segmenter.prompts import Candidates

# Key of config.json: false for a converted SAM2 that has no token for the object score; see seg_zero.segmenter.convert.
OBJECT_TOKEN = "object_score_token"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No loading bar, and no table of the weights that belong to the video model or the detector."""
    bar, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


class TransformersSegmenter(PromptedSegmenter):
    """A frozen Sam2Model or Sam3TrackerModel.

    mean, std: of the model's training images, for each of the channels R, G, B in 0..1.
    """

    def __init__(self, model: PreTrainedModel, mean: Sequence[float], std: Sequence[float]) -> None:
        self.model = model.eval()
        prompts: Any = model.prompt_encoder
        self.side = int(prompts.input_image_size)
        self.low_res_side = int(prompts.mask_input_size[0])
        self._mean, self._std = (torch.tensor(values).view(3, 1, 1) for values in (mean, std))
        self._object_token = bool(getattr(model.config, OBJECT_TOKEN, True))

    @classmethod
    def from_folder(cls, files: TransformersFiles, device: str) -> TransformersSegmenter:
        """Load a folder with config.json, preprocessor_config.json and safetensors.

        Raises InputError if one of them is missing or the weights are not those of the configuration.
        """
        kind: Any = Sam3TrackerModel if files.model_type in SAM3_TYPES else Sam2Model
        try:
            with _quiet():
                processor = AutoImageProcessor.from_pretrained(files.folder, local_files_only=True)
                model, report = load_model(
                    kind, str(files.folder), dtype=torch.float32, use_safetensors=True, local_files_only=True
                )
        except Exception as error:  # transformers, safetensors and json each raise errors of their own
            raise InputError(
                f"segmenter folder {files.folder} does not load as {kind.__name__} "
                f"({type(error).__name__}: {one_line(error)}); download it again"
            ) from error
        check_shapes(report, f"segmenter folder {files.folder}")
        if report["missing_keys"]:
            missing = sorted(report["missing_keys"])
            raise InputError(
                f"segmenter folder {files.folder} lacks {len(missing)} weights of {kind.__name__}, such as "
                f"{missing[0]}; download it again"
            )
        return cls(model.to(device), processor.image_mean, processor.image_std)

    @property
    def device(self) -> torch.device:
        return self.model.device

    def _encode(self, images: Sequence[np.ndarray]) -> list[torch.Tensor]:
        # Resized as floats, as the sam2 package does it; transformers' own processor rounds to 8 bits in between.
        inputs = [
            F.interpolate(
                torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255,
                (self.side, self.side),
                mode="bilinear",
                align_corners=False,
                antialias=True,
            )[0]
            for image in images
        ]
        pixels = (torch.stack(inputs) - self._mean) / self._std
        return list(self.model.get_image_embeddings(pixels.to(self.device)))

    def _decode(
        self,
        features: list[torch.Tensor],
        coordinates: torch.Tensor,
        labels: torch.Tensor,
        masks: torch.Tensor | None,
    ) -> Candidates:
        """Each prompt goes with an image of its own; box corners are points with SAM's labels, as in sam2."""
        *fine, coarse = features
        sparse, dense = self.model.get_prompt_embeddings(
            input_points=coordinates[:, None], input_labels=labels[:, None], input_masks=masks
        )
        if not self._object_token:
            sparse = sparse[:, :, :-1]  # the padding point, which stands in the place of the object token instead
        position = self.model.get_image_wide_positional_embeddings()
        logits, quality, _, _ = self.model.mask_decoder(
            image_embeddings=coarse,
            image_positional_embeddings=position.repeat(len(coarse), 1, 1, 1),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
            high_resolution_features=fine,
        )
        return Candidates(logits[:, 0], quality[:, 0])
