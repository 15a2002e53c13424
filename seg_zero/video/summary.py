"""What a clip's answer comes to: in how many frames each object was seen, and where the policy was asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from seg_zero.video.clips import Clip
from seg_zero.video.tracking import VideoFrame


@dataclass
class ClipSummary:
    """Counts over the frames added so far.

    frames: how many; seen: by object, in how many frames; unreadable: frames without a picture; asked: numbers of the
    frames on which the policy was asked.
    """

    frames: int = 0
    seen: dict[int, int] = field(default_factory=dict)
    unreadable: int = 0
    asked: list[int] = field(default_factory=list)

    def add(self, frame: VideoFrame) -> None:
        self.frames += 1
        self.unreadable += frame.image is None
        if frame.answer is not None:
            self.asked.append(frame.index)
        for item in frame.objects:
            self.seen[item.id] = self.seen.get(item.id, 0) + int(item.mask.any())

    def record(self, clip: Clip, question: str, files: dict[str, str]) -> dict[str, Any]:
        """As JSON types; ``files``: paths by output."""
        return {
            "video": clip.name,
            "question": question,
            "frames": self.frames,
            "key_frames": self.asked,
            "unreadable": self.unreadable,
            "objects": [{"id": number, "frames": count} for number, count in sorted(self.seen.items())],
            "files": files,
        }
