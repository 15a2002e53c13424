"""The public face: one question about one image in, a reasoned mask out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from seg_zero.answer import PromptObject, parse_answer
from seg_zero.images import ImageLike, load_image
from seg_zero.policy import MAX_NEW_TOKENS, Policy, TransformersPolicy, default_spec, resolve_model
from seg_zero.prompting import to_image_pixels
from seg_zero.segmenter import Segmenter


@dataclass(frozen=True)
class SegmentationResult:
    """The answer to one question; all coordinates and masks are in pixels of the given image.

    masks: boolean N x H x W, one per object (N may be 0); scores: N predicted mask IoUs;
    thinking: the policy's reasoning; text: its raw output; problem: None, or why the text holds no
    usable answer; seconds: time spent per stage.
    """

    question: str
    thinking: str
    objects: tuple[PromptObject, ...]
    masks: np.ndarray
    scores: np.ndarray
    text: str
    problem: str | None
    seconds: dict[str, float]

    @property
    def mask(self) -> np.ndarray:
        """Union of the objects' masks, boolean H x W."""
        return np.asarray(self.masks.any(axis=0))

    @property
    def found(self) -> bool:
        return bool(self.mask.any())


class ReasoningSegmenter:
    """A policy that reasons and a SAM2 that segments.

    >>> segmenter = ReasoningSegmenter.from_pretrained()
    >>> result = segmenter("scene.png", "the largest circle")
    >>> result.thinking, result.objects, result.mask
    """

    def __init__(self, policy: Policy, segmenter: Segmenter) -> None:
        self.policy, self.segmenter = policy, segmenter

    @classmethod
    def from_pretrained(
        cls,
        policy: str | Path | None = None,
        segmenter: str | Path | None = None,
        *,
        device: str | None = None,
        template: str | None = None,
        image_size: int | None = None,
        max_new_tokens: int = MAX_NEW_TOKENS,
    ) -> ReasoningSegmenter:
        """Load both models; None means the embedded tiny ones.

        policy: folder or hub id of the Qwen2-VL / Qwen2.5-VL families (e.g. Ricky06662/VisionReasoner-7B);
        segmenter: sam2 checkpoint file, folder or hub id; template, image_size: replace the prompt
        settings that belong to the policy. Raises InputError if something is missing or does not fit.
        """
        spec = default_spec(resolve_model(policy), template, image_size)
        return cls(
            TransformersPolicy.from_pretrained(policy, device=device, spec=spec, max_new_tokens=max_new_tokens),
            Segmenter.from_pretrained(segmenter, device=device),
        )

    def __call__(self, image: ImageLike, question: str) -> SegmentationResult:
        """Answer one question. Raises InputError for an unusable image or an empty question only."""
        return self.batch([image], [question])[0]

    def batch(self, images: Sequence[ImageLike], questions: Sequence[str]) -> list[SegmentationResult]:
        """Answer several questions: the policy runs in batches, SAM2 one image after another."""
        pictures = [load_image(image) for image in images]
        start = time.perf_counter()
        texts = self.policy.generate(pictures, questions)
        policy_seconds = (time.perf_counter() - start) / max(len(texts), 1)
        return [
            self.segment_text(picture, question, text, policy_seconds)
            for picture, question, text in zip(pictures, questions, texts, strict=True)
        ]

    def segment_text(
        self, image: Image.Image, question: str, text: str, policy_seconds: float = 0.0
    ) -> SegmentationResult:
        """Turn a policy's text into masks; never raises on the text."""
        answer = parse_answer(text)
        spec = self.policy.spec
        objects = tuple(to_image_pixels(item, spec, image.width, image.height) for item in answer.objects)
        start = time.perf_counter()
        found = self.segmenter.segment(image, objects)
        seconds = {"policy": policy_seconds, "segmenter": time.perf_counter() - start}
        return SegmentationResult(
            question, answer.thinking, objects, found.masks, found.scores, text, answer.problem, seconds
        )
