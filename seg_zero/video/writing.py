"""The files of a clip's answer: an overlay video and the masks, written frame by frame, whole at the end."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np
from PIL import Image

from seg_zero.errors import InputError
from seg_zero.files import whole_file
from seg_zero.masks import encode_mask
from seg_zero.video.clips import Clip
from seg_zero.video.tracking import VideoFrame
from seg_zero.visualize import overlay

CODEC, QUALITY = "libx264", "20"  # H.264 plays everywhere; constant rate factor, 0 (lossless) to 51
MIN_SIDE = 128  # pixels; smaller clips are enlarged


class FrameSink(Protocol):
    def add(self, frame: VideoFrame) -> None: ...


@contextmanager
def open_sinks(video: Path | None, masks: Path | None, clip: Clip, question: str) -> Iterator[Sequence[FrameSink]]:
    """What to give each frame to, in order; the files are in place when the block ends, and absent if it fails.

    Raises InputError if they cannot be written.
    """
    with ExitStack() as stack:
        sinks: list[FrameSink] = []
        if video is not None:
            sinks.append(stack.enter_context(_overlay_video(video, clip)))
        if masks is not None:
            sinks.append(stack.enter_context(_mask_file(masks, clip, question)))
        yield sinks


class _Overlays:
    """Encodes overlays; a frame that could not be read shows the picture before it."""

    def __init__(self, container: Any, clip: Clip) -> None:
        self._container, self._scale = container, max(1, -(-MIN_SIDE // min(clip.size)))
        # Halved colours need even sides.
        self._width, self._height = ((side * self._scale + 1) // 2 * 2 for side in clip.size)
        self._stream = container.add_stream(CODEC, rate=clip.fps, options={"crf": QUALITY})
        self._stream.width, self._stream.height, self._stream.pix_fmt = self._width, self._height, "yuv420p"
        self._last = Image.new("RGB", clip.size)

    def add(self, frame: VideoFrame) -> None:
        self._last = frame.image or self._last
        seen = [item for item in frame.objects if item.mask.any()]
        masks = np.stack([item.mask for item in seen]) if seen else np.zeros((0, *self._last.size[::-1]), dtype=bool)
        side = self._scale * min(self._last.size)
        drawn = np.asarray(overlay(self._last, masks, min_side=side, numbers=[item.id for item in seen]))
        height, width = drawn.shape[:2]
        whole = np.pad(drawn, ((0, self._height - height), (0, self._width - width), (0, 0)), mode="edge")
        self._put(self._stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(whole), format="rgb24")))

    def finish(self) -> None:
        self._put(self._stream.encode(None))

    def _put(self, packets: Sequence[av.Packet]) -> None:
        for packet in packets:
            self._container.mux(packet)


@contextmanager
def _overlay_video(path: Path, clip: Clip) -> Iterator[FrameSink]:
    with whole_file(path) as partial:
        try:
            with av.open(str(partial), "w", format="mp4", options={"movflags": "faststart"}) as container:
                overlays = _Overlays(container, clip)
                yield overlays
                overlays.finish()
        except (av.FFmpegError, OSError) as error:
            raise InputError(f"{path} cannot be written ({error}); name another --output_path") from error


class _MaskLines:
    def __init__(self, stream: Any) -> None:
        self._stream, self._comma = stream, ""

    def add(self, frame: VideoFrame) -> None:
        self._stream.write(f"{self._comma}\n{json.dumps(record_of(frame), ensure_ascii=False)}")
        self._comma = ","


@contextmanager
def _mask_file(path: Path, clip: Clip, question: str) -> Iterator[FrameSink]:
    width, height = clip.size
    head = {
        "video": clip.name,
        "question": question,
        "width": width,
        "height": height,
        "fps": float(clip.fps),
        "frame_count": len(clip),
    }
    with whole_file(path) as partial, partial.open("w", encoding="utf-8") as stream:
        stream.write(json.dumps(head, ensure_ascii=False)[:-1] + ', "frames": [')
        yield _MaskLines(stream)
        stream.write("\n]}\n")


def record_of(frame: VideoFrame) -> dict[str, Any]:
    """A frame as JSON: its objects with masks as COCO RLE, and on key frames the policy's answer."""
    record: dict[str, Any] = {
        "frame": frame.index,
        "seconds": round(frame.seconds, 4),
        "objects": [
            {"id": item.id, "area": int(item.mask.sum()), "segmentation": encode_mask(item.mask)}
            for item in frame.objects
        ],
    }
    if frame.answer is not None:
        record["answer"] = {"thinking": frame.answer.thinking, "text": frame.answer.text}
    if frame.problem is not None:
        record["problem"] = frame.problem
    return record
