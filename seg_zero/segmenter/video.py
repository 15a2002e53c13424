"""Masks carried through a clip: one protocol, and sam2's own video predictor behind it."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from seg_zero.errors import InputError
from seg_zero.segmenter.base import Segmenter
from seg_zero.segmenter.prompted import inference
from seg_zero.segmenter.sam2_package import Sam2PackageSegmenter, VideoPredictor

# As sam2's loader of video frames normalises them.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Tracker(Protocol):
    """Carries masks from frame to frame, given one after the other; it holds the state of one clip.

    The frames of a clip have one size. They may as well be given from the last to the first.
    """

    def start(self, image: Image.Image, masks: Mapping[int, np.ndarray]) -> None:
        """Forget everything and begin with the masks (boolean H x W, at least one) of objects in an RGB image.

        The keys are the objects' numbers, which :meth:`step` returns.
        """
        ...

    def step(self, image: Image.Image) -> dict[int, np.ndarray]:
        """The objects' masks in the next frame, boolean H x W; empty where an object is out of sight."""
        ...


def open_tracker(segmenter: Segmenter) -> Tracker:
    """A tracker that shares the segmenter's weights. Raises InputError for a model without a video memory."""
    if not isinstance(segmenter, Sam2PackageSegmenter):
        raise InputError(
            "video needs a segmenter of the sam2 package, and this one is of transformers; "
            "give --segmentation_model_path facebook/sam2.1-hiera-large, or a sam2 yaml with its checkpoint"
        )
    model = segmenter.model
    if not isinstance(model, VideoPredictor) or model.num_maskmem < 1 or model.memory_attention is None:
        raise InputError(
            "the segmenter has no video memory (num_maskmem of its yaml is 0); give a model of sam2 that has one"
        )
    return Sam2Tracker(model)


class _Frames:
    """What sam2's predictor takes for the list of a clip's frames; it holds the newest one alone."""

    def __init__(self) -> None:
        self.index = -1
        self.pixels = torch.zeros(0)

    def put(self, pixels: torch.Tensor) -> None:
        self.index, self.pixels = self.index + 1, pixels

    def __getitem__(self, index: int) -> torch.Tensor:
        if index != self.index:
            raise IndexError(f"frame {index} was asked for while {self.index} is held")
        return self.pixels


class Sam2Tracker:
    """sam2's ``SAM2VideoPredictor``, fed frame by frame.

    The predictor keeps the output of every frame it has seen; those beyond the reach of its memory are dropped here, so
    that a clip of any length takes the same memory.
    """

    def __init__(self, model: VideoPredictor) -> None:
        self._model = model
        self._frames = _Frames()
        self._state: dict[str, Any] = {}
        pointers = model.max_obj_ptrs_in_encoder if model.use_obj_ptrs_in_encoder else 0
        self.reach = max(model.num_maskmem * model.memory_temporal_stride_for_eval, pointers)

    @property
    def frames_held(self) -> int:
        """Of how many frames anything is held: the key frame's and the newest ones' state."""
        outputs = self._state["output_dict_per_obj"].values() if self._state else ()
        held = {index for one in outputs for kind in one.values() for index in kind}
        tracked = {index for one in self._state.get("frames_tracked_per_obj", {}).values() for index in one}
        return len(held | tracked | set(self._state.get("cached_features", {})))

    def start(self, image: Image.Image, masks: Mapping[int, np.ndarray]) -> None:
        model, self._frames = self._model, _Frames()
        self._frames.put(self._pixels(image))
        self._state = self._new_state(image)
        with inference(model.device):
            for number, mask in masks.items():
                model.add_new_mask(self._state, 0, number, torch.from_numpy(mask))
        self._predict(0)  # the masks given; now they are in the memory
        self._keep_precision("cond_frame_outputs", 0)

    def step(self, image: Image.Image) -> dict[int, np.ndarray]:
        self._frames.put(self._pixels(image))
        index = self._frames.index
        numbers, logits = self._predict(index)
        self._keep_precision("non_cond_frame_outputs", index)
        for outputs, tracked in zip(
            self._state["output_dict_per_obj"].values(), self._state["frames_tracked_per_obj"].values(), strict=True
        ):
            for kept in (outputs["non_cond_frame_outputs"], tracked):
                for old in [frame for frame in kept if frame <= index - self.reach]:
                    del kept[old]
        return dict(zip(numbers, (logits[:, 0] > 0).cpu().numpy(), strict=True))

    def _predict(self, index: int) -> tuple[list[int], torch.Tensor]:
        """The objects' numbers, and their logits N x 1 x H x W in a frame."""
        with inference(self._model.device):
            ((_, numbers, logits),) = self._model.propagate_in_video(
                self._state, start_frame_idx=index, max_frame_num_to_track=0
            )
        return numbers, logits

    def _keep_precision(self, kind: str, index: int) -> None:
        """sam2 stores memories in bfloat16 and so needs autocast; where there is none, they go back to float32."""
        if self._model.device.type == "cuda":
            return
        for outputs in self._state["output_dict_per_obj"].values():
            outputs[kind][index]["maskmem_features"] = outputs[kind][index]["maskmem_features"].float()

    def _new_state(self, image: Image.Image) -> dict[str, Any]:
        """A state of sam2's making, without a clip on disk: it is made for one picture, which then gives way."""
        with tempfile.TemporaryDirectory() as folder:
            side = self._model.image_size
            Image.new("RGB", (side, side)).save(Path(folder) / "0.jpg")
            state = self._model.init_state(folder)
        state["cached_features"].clear()
        state["images"], state["num_frames"] = self._frames, sys.maxsize
        state["video_width"], state["video_height"] = image.size
        return state

    def _pixels(self, image: Image.Image) -> torch.Tensor:
        """A frame as sam2's loader makes it: resized by Pillow, normalised, 3 x S x S."""
        side = self._model.image_size
        values = np.asarray(image.convert("RGB").resize((side, side))) / 255.0
        return torch.from_numpy(((values - MEAN) / STD).transpose(2, 0, 1)).float()
