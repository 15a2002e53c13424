"""Clips for tests: files and folders of moving shapes, and a policy that knows where they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from seg_zero.answer import write_answer, write_solution_multi
from seg_zero.masks import mask_to_prompt_object
from seg_zero.policy import GREEDY, Policy, Reply, Request, Sampling
from seg_zero.prompting import PromptSpec

NO_OBJECT = "<think>nothing of that kind</think><answer>[]</answer>"


class PointingPolicy(Policy):
    """Names the objects of the n-th list of masks when it is asked for the n-th time, and none after the last."""

    def __init__(self, answers: Sequence[Sequence[np.ndarray]], side: int = 112) -> None:
        self.spec, self.in_flight = PromptSpec("brief", side), 4
        self._texts = [
            write_answer("that one", write_solution_multi([mask_to_prompt_object(mask) for mask in masks]))
            if len(masks)
            else NO_OBJECT
            for masks in answers
        ]
        self.images: list[Image.Image] = []

    def stream(self, requests: Iterable[Request], sampling: Sampling = GREEDY) -> Iterator[Reply]:
        for request in requests:
            text = self._texts[len(self.images)] if len(self.images) < len(self._texts) else NO_OBJECT
            self.images.append(request.image)
            yield Reply(request.key, (text,), len(text), False)


def write_frames(folder: Path, images: Iterable[Image.Image]) -> Path:
    """The pictures as 00000.png, 00001.png and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(images):
        image.save(folder / f"{index:05}.png")
    return folder


def write_video(path: Path, images: Iterable[Image.Image], fps: int = 10, key_interval: int = 12) -> Path:
    """The pictures as H.264 of high quality; every ``key_interval``-th can be decoded by itself."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps), options={"crf": "4", "g": str(key_interval)})
        for index, image in enumerate(images):
            if index == 0:
                stream.width, stream.height, stream.pix_fmt = *image.size, "yuv444p"
            container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode(None))
    return path
