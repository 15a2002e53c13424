"""A whole sequence to instances: progress, bad frames left out, checkpoints, and going on after a kill."""

from __future__ import annotations

import dataclasses
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from seg_zero.errors import InputError, one_line
from seg_zero.files import make_folder, read_json, write_json
from seg_zero.online3d.checkpoint import load_scene, save_scene
from seg_zero.online3d.config import SceneConfig
from seg_zero.online3d.inputs.frames import BadFrame, Frame, FrameMasks
from seg_zero.online3d.inputs.loaders.layouts import open_sequence
from seg_zero.online3d.inputs.loaders.sequence import KeyFrame, RgbdSequence
from seg_zero.online3d.results.files import SUMMARY, write_result
from seg_zero.online3d.results.frame_masks import write_frame_masks
from seg_zero.online3d.scene import STAGES, Added, MaskSource, OnlineScene

STATE = "state.npz"
SHOWN = 10  # problems that are printed; all are in the summary
Say = Callable[[str], None]


@dataclass
class ScanSummary:
    """What a scan did.

    left_out: problems by frame, in order; milliseconds: mean per key frame by stage; features: the encoder that made
    the vectors of masks (:mod:`seg_zero.encoders.spaces`), empty if none did.
    """

    sequence: str
    layout: str
    source: str
    settings: dict[str, Any]
    features: str = ""
    key_frames: int = 0
    used: int = 0
    masks: int = 0
    lifted: int = 0
    instances: int = 0
    points: int = 0
    borrowed_poses: int = 0
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    dropped_masks: dict[str, int] = field(default_factory=dict)
    milliseconds: dict[str, float] = field(default_factory=dict)
    up: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])  # sum of the cameras' upward axes
    resumed_at: list[int] = field(default_factory=list)
    finished: bool = False

    def identity(self) -> dict[str, Any]:
        """What must be the same for a scan to go on."""
        return {name: getattr(self, name) for name in ("sequence", "layout", "source", "settings", "features")}


def read_summary(folder: Path) -> ScanSummary | None:
    """The summary in a folder, None if there is none. Raises InputError for a damaged one."""
    path = folder / SUMMARY
    if not path.exists():
        return None
    try:
        return ScanSummary(**read_json(path))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} cannot be read ({one_line(error)}); delete {folder} to scan again") from error


def settings_of(sequence: RgbdSequence, words: Sequence[str]) -> SceneConfig:
    """The defaults, then what this data set's configuration has otherwise, then ``name=value`` words.

    Raises InputError for settings with which no mask could ever merge.
    """
    config = SceneConfig.parse(list(words), SceneConfig().replaced(**sequence.settings))
    if config.released and config.geometry == "none":
        raise InputError(
            "compat='released' merges no masks without a vector of their shape, and geometry='none' gives them none; "
            "set geometry=fpfh"
        )
    return config


def scan(
    folder: Path,
    out: Path,
    source: MaskSource,
    source_name: str,
    *,
    layout: str | None = None,
    settings: Sequence[str] = (),
    features: str = "",
    say: Say = print,
    checkpoint_seconds: float = 30.0,
    coco: bool = True,
) -> ScanSummary:
    """Segment a sequence and write the result to ``out``; goes on where an earlier run of the same scan stopped.

    source: finds the masks of a frame; source_name: identifies it. features: names the encoder of their
    vectors. say: takes lines about the progress.
    checkpoint_seconds: time between two checkpoints. coco: whether to write the masks of each key frame at the end,
    for which the frames are read again. Raises InputError before any work for what no run could use.
    """
    sequence = open_sequence(folder, layout)
    config = settings_of(sequence, settings)
    keys = sequence.key_frames(config.seg_add_interval)
    summary = ScanSummary(str(folder.resolve()), sequence.layout, source_name, dataclasses.asdict(config), features)
    earlier = read_summary(out)
    if earlier is not None and earlier.identity() != summary.identity():
        raise InputError(f"{out} holds another scan (other frames, masks or settings); name another folder")
    if earlier is not None and earlier.finished:
        say(f"{out} holds this scan already, finished: {earlier.instances} instances")
        return earlier
    make_folder(out)
    summary.key_frames = len(keys)
    summary.notes = [note for note in (sequence.gaps(),) if note]
    scene = OnlineScene(config, source)
    return _Run(sequence, scene, summary, out, say, checkpoint_seconds, coco).run(keys)


def compile_loops(geometry: str = "none") -> None:
    """Fuse a few small frames of a wall, so that numba compiles before the first frame and is in no frame's time."""
    scene = OnlineScene(SceneConfig(merge_kf_interval=2, mask_weight_threshold=1, geometry=geometry))
    height, width = 96, 128
    camera = np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1]], dtype=np.float64)
    labels = np.zeros((height, width), dtype=np.int32)
    labels[8:-8, 8:64], labels[8:-8, 72:-8] = 1, 2
    for number in range(4):
        pose = np.eye(4)
        pose[0, 3] = 0.02 * number
        depth = np.full((height, width), 2, dtype=np.float32)
        scene.add(Frame(number, np.zeros((height, width, 3), np.uint8), depth, camera, pose), FrameMasks(labels))
    scene.finish()
    scene.result()


@dataclass
class _Run:
    sequence: RgbdSequence
    scene: OnlineScene
    summary: ScanSummary
    out: Path
    say: Say
    checkpoint_seconds: float
    coco: bool
    totals: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    next_key: int = 0

    def run(self, keys: list[KeyFrame]) -> ScanSummary:
        self._resume(keys)
        self.say("loading the compiled loops; the first time on a machine they are compiled, for up to two minutes")
        compile_loops(self.scene.config.geometry)
        write_json(self.out / SUMMARY, dataclasses.asdict(self.summary))
        saved = time.monotonic()
        for place in range(self.next_key, len(keys)):
            self._one(keys[place], place + 1, len(keys))
            self.next_key = place + 1
            if time.monotonic() - saved >= self.checkpoint_seconds:
                self._save()
                saved = time.monotonic()
        return self._finish(keys)

    def _resume(self, keys: list[KeyFrame]) -> None:
        path = self.out / STATE
        if not path.exists():
            return
        stored = load_scene(self.scene, path)
        self.next_key = stored["next_key"]
        self.totals.update(stored["totals"])
        for name, value in stored["summary"].items():
            setattr(self.summary, name, value)
        self.summary.resumed_at.append(self.next_key)
        self.say(f"going on at key frame {self.next_key + 1} of {len(keys)}")

    def _one(self, key: KeyFrame, place: int, count: int) -> None:
        start = time.perf_counter()
        try:
            frame = self.sequence.read(key)
            self.totals["read"] += (time.perf_counter() - start) * 1000
            added = self.scene.add(frame)
        except BadFrame as problem:
            self.summary.left_out.append(str(problem))
            if len(self.summary.left_out) <= SHOWN:
                self.say(f"left out: {problem}")
            return
        self.summary.used += 1
        self.summary.up = [total - float(down) for total, down in zip(self.summary.up, frame.pose[:3, 1], strict=True)]
        self.summary.masks += added.masks
        self.summary.lifted += added.lifted
        self.summary.borrowed_poses += key.borrowed
        for name, milliseconds in added.milliseconds.items():
            self.totals[name] += milliseconds
        self.say(_line(added, place, count))

    def _save(self) -> None:
        counted = ("used", "masks", "lifted", "borrowed_poses", "left_out", "up", "resumed_at")
        extra = {
            "next_key": self.next_key,
            "totals": dict(self.totals),
            "summary": {name: getattr(self.summary, name) for name in counted},
        }
        save_scene(self.scene, self.out / STATE, extra)

    def _finish(self, keys: list[KeyFrame]) -> ScanSummary:
        summary = self.summary
        if not summary.used:
            raise InputError(f"none of {summary.key_frames} key frames could be used; the first: {summary.left_out[0]}")
        self.scene.finish()
        result = self.scene.result()
        write_result(result, self.out)
        if self.coco:
            used = set(self.scene.numbers)
            frames = [key for key in keys if key.number in used]
            self.say(f"writing the objects in each of {len(frames)} key frames")
            size = self.scene.config.voxel_size
            summary.notes += write_frame_masks(self.sequence, frames, result, size, self.out)
        summary.instances, summary.points = result.masks.shape[1], len(result.points)
        if self.scene.config.adaptive:
            levels = self.scene.bank.levels
            found = f"{levels}" if levels else "too few masks with vectors to learn from, the fixed thresholds held"
            summary.notes.append(f"rule=adaptive: {found}")
        summary.dropped_masks = dict(self.scene.lifter.dropped)
        summary.milliseconds = {
            name: round(self.totals[name] / summary.used, 2) for name in ("read", *STAGES) if name in self.totals
        }
        summary.finished = True
        write_json(self.out / SUMMARY, dataclasses.asdict(summary))
        (self.out / STATE).unlink(missing_ok=True)
        return summary


def _line(added: Added, place: int, count: int) -> str:
    stages = ", ".join(f"{name} {value:.0f}" for name, value in added.milliseconds.items())
    counts = f"{added.masks} masks, {added.lifted} lifted, {added.live} live"
    return f"{place}/{count}  frame {added.number}: {counts}; ms: {stages}"


def describe(summary: ScanSummary) -> str:
    """A few lines about a finished scan."""
    lines = [
        f"{summary.instances} instances, {summary.points:,} points, from {summary.lifted} of {summary.masks} masks "
        f"in {summary.used} of {summary.key_frames} key frames"
    ]
    if not summary.instances:
        lines.append(
            "no object was confirmed by enough masks; give better ones (--segmenter, --masks) or a lower threshold "
            "(--set mask_weight_threshold=N)"
        )
    if summary.left_out:
        lines.append(f"left out: {len(summary.left_out)} key frame(s), named in {SUMMARY}")
    if summary.borrowed_poses:
        lines.append(f"invalid poses replaced by the last valid one: {summary.borrowed_poses}")
    lines += summary.notes
    stages = ", ".join(f"{name} {value:.1f}" for name, value in summary.milliseconds.items())
    lines.append(f"ms per key frame: {stages}")
    return "\n".join(lines)
