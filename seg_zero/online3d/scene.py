"""The online scene: frames with masks go in one at a time, instances can be asked for at any time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from seg_zero.errors import InputError
from seg_zero.online3d.answers.ask import MIN_SCORE, Answerer, SceneAnswer, ask
from seg_zero.online3d.bank import Geometry, MaskBank, NewMask
from seg_zero.online3d.config import SceneConfig
from seg_zero.online3d.geometry.vectors import ShapeVectors
from seg_zero.online3d.inputs.frames import BadFrame, Frame, FrameMasks
from seg_zero.online3d.lifting import Lifter
from seg_zero.online3d.results.instances import Instance, instances_of
from seg_zero.online3d.results.result import Result, result_of
from seg_zero.online3d.surface import Surface

MaskSource = Callable[[Frame], FrameMasks]
STAGES = ("masks", "project", "surface", "lift", "associate", "merge")


@dataclass(frozen=True)
class Added:
    """What one key frame brought: masks given and those that became raw masks, live masks after it, ms by stage."""

    number: int
    masks: int
    lifted: int
    live: int
    merged: bool
    milliseconds: dict[str, float]


@dataclass
class OnlineScene:
    """Instances of a scene that a camera moves through.

        scene = OnlineScene(masks=SomeSource())
        for frame in sequence:
            scene.add(frame)
        scene.instances

    masks: what finds the masks of a frame that comes without; None if all come with theirs.
    geometry: voxel numbers to a vector of their shape; None for what ``config.geometry`` says.
    clock: seconds, for the times of the stages.
    """

    config: SceneConfig = field(default_factory=SceneConfig)
    masks: MaskSource | None = None
    geometry: Geometry | None = None
    clock: Callable[[], float] = time.perf_counter

    def __post_init__(self) -> None:
        self.surface = Surface(self.config.voxel_size)
        self.lifter = Lifter(self.surface, self.config)
        fpfh = self.geometry is None and self.config.geometry == "fpfh"
        self.shapes = ShapeVectors(self.surface, self.config) if fpfh else None
        self.bank = MaskBank(self.config, self.shapes or self.geometry)
        self.numbers: list[int] = []  # of the key frames, by row
        self._milliseconds: dict[str, float] = {}

    def add(self, frame: Frame, masks: FrameMasks | None = None) -> Added:
        """Fuse one key frame; every ``merge_kf_interval`` of them live masks are merged.

        Raises BadFrame, with the scene unchanged, for masks of another size and numbers that do not ascend.
        """
        self._milliseconds = {}
        if self.numbers and frame.number <= self.numbers[-1]:
            raise BadFrame(f"frame {frame.number} comes after frame {self.numbers[-1]}; give frames in order")
        if masks is None:
            if self.masks is None:
                raise InputError(
                    f"frame {frame.number} has no masks, and the scene has no source of masks; give either"
                )
            with self._stage("masks"):
                masks = self.masks(frame)
        if masks.labels.shape != frame.depth.shape:
            raise BadFrame(
                f"frame {frame.number}: masks are {_size(masks.labels)} and depth is {_size(frame.depth)} pixels; "
                "make them one size"
            )
        near, far = self.config.depth_near, self.config.depth_far
        depth = np.where((frame.depth > near) & (frame.depth < far), frame.depth, np.float32(0))
        with self._stage("project"):
            voxels = self.surface.project(depth, frame.intrinsics, frame.pose)
        with self._stage("surface"):
            self.surface.record(len(self.numbers), voxels, frame.colour)
            if self.shapes is not None:
                self.shapes.see(voxels, frame.pose[:3, 3])
        with self._stage("lift"):
            lifted = self.lifter.lift(voxels, masks.labels)
        with self._stage("associate"):
            news = [NewMask(one.voxels, one.number, masks.feature(one.number)) for one in lifted]
            entered = self.bank.add(news)
        self.numbers.append(frame.number)
        merged = False
        if len(self.numbers) % self.config.merge_kf_interval == 0:
            merged = self._update()
        kept = sum(number >= 0 for number in entered)
        return Added(frame.number, masks.count, kept, len(self.bank.live), merged, dict(self._milliseconds))

    def finish(self) -> None:
        """Merge what came since the last merge, at the end of a sequence."""
        if len(self.numbers) % self.config.merge_kf_interval:
            self._update()

    def _update(self) -> bool:
        with self._stage("merge"):
            return self.bank.update()

    @property
    def instances(self) -> list[Instance]:
        """The objects so far, largest first."""
        return instances_of(self.bank, self.surface, self.numbers)

    def result(self) -> Result:
        """Points of the surface and the objects so far, largest first."""
        return result_of(self.surface, self.instances, self.config.min_hits)

    def ask(
        self, question: str, answerer: Answerer, frames: Iterable[Frame], min_score: float = MIN_SCORE
    ) -> SceneAnswer:
        """The objects so far that answer a question; columns are places in :attr:`instances`.

        answerer: a :class:`seg_zero.pipeline.ReasoningSegmenter`. frames: those to ask about, which the scene does not
        keep. See :func:`seg_zero.online3d.answers.ask.ask`.
        """
        return ask(self.result(), frames, question, answerer, voxel_size=self.config.voxel_size, min_score=min_score)

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        start = self.clock()
        yield
        self._milliseconds[name] = (self.clock() - start) * 1000

    @property
    def nbytes(self) -> int:
        """Bytes of everything that grows with the scene."""
        shapes = 0 if self.shapes is None else self.shapes.nbytes
        return self.bank.nbytes + self.surface.nbytes + shapes


def _size(array: np.ndarray) -> str:
    return f"{array.shape[1]}x{array.shape[0]}"
