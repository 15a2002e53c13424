"""Labels of voxels by text, and their mIoU against a truth, by the protocol of RayFronts and RADSeg (arXiv 2511.19704).

Feature maps of every tenth frame are averaged in voxels of 5 cm; the head of the adaptor maps voxels to the space of
the texts; softmax of 100 times the cosine; labels that stay below 0.5 in the whole scene are taken for absent, and
voxels below 0.1 have no label. Each voxel of the truth takes the most frequent label among the 5 nearest voxels.
Voxels of the truth without a class do not count, nor do classes that the truth lacks. With a refiner the probabilities
of pixels are averaged in the place of features, and compared with those of pure labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.spatial import cKDTree

from seg_zero.errors import InputError
from seg_zero.metrics.semantic import Confusion
from seg_zero.online3d.inputs.frames import BadFrame, Frame
from seg_zero.online3d.inputs.loaders.sequence import RgbdSequence
from seg_zero.online3d.semantic.lifting import FeatureVoxels
from seg_zero.online3d.synthetic.sequence import Truth, truth_of
from seg_zero.online3d.voxels import pack, voxel_keys
from seg_zero.open_vocabulary.labels import parse_labels, texts_and_classes
from seg_zero.open_vocabulary.probabilities import class_probabilities
from seg_zero.open_vocabulary.segmenter import OpenVocabularySegmenter

NONE = 65535  # in the place of a class: none was found, or none is true
VOXELS_AT_ONCE = 1 << 14


@dataclass(frozen=True)
class Protocol:
    """voxel_size: metres. every: least distance of two frames in numbers. neighbours: voxels that decide on one of the
    truth; 0: the one in the same place. Raises InputError for values outside their range."""

    voxel_size: float = 0.05
    every: int = 10
    neighbours: int = 5

    def __post_init__(self) -> None:
        if not 0.001 <= self.voxel_size <= 10:
            raise InputError(f"voxel_size {self.voxel_size:g} is outside 0.001 to 10 m; take 0.05")
        if self.every < 1:
            raise InputError(f"every {self.every} is below 1; take 10 for every tenth frame")
        if not 0 <= self.neighbours <= 100:
            raise InputError(f"neighbours {self.neighbours} is outside 0..100; take 5")


def map_of(segmenter: OpenVocabularySegmenter, frame: Frame, labels: Sequence[str]) -> np.ndarray:
    """What is lifted of a frame: the backbone's features h x w x D, or with a refiner the probabilities H x W x T."""
    picture = Image.fromarray(np.ascontiguousarray(frame.colour))
    if segmenter.refiner is not None:
        return segmenter.segment(picture, labels).probabilities().transpose(1, 2, 0)
    return segmenter.features(segmenter.prepare(picture)[None])[0].permute(1, 2, 0).float().cpu().numpy()


@torch.inference_mode()
def label_voxels(segmenter: OpenVocabularySegmenter, means: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """The class of each voxel from 0, int64 V, :data:`NONE` without one. means: V x D of what :func:`map_of` gives."""
    texts, classes = texts_and_classes(parse_labels(labels))
    count = max(classes) + 1
    if segmenter.refiner is None:
        encoded = segmenter.encode_texts(texts)
    parts = []
    for start in range(0, len(means), VOXELS_AT_ONCE):
        some = torch.from_numpy(means[start : start + VOXELS_AT_ONCE]).T[None, :, None].to(segmenter.encoder.device)
        if segmenter.refiner is None:
            found = class_probabilities(segmenter.project(some), encoded, classes)
        else:
            found = class_probabilities(some + 1e-10, torch.eye(count))
        parts.append(found[0, :, 0].T.cpu().numpy())
    probabilities = np.concatenate(parts) if parts else np.zeros((0, count), dtype=np.float32)
    settings = segmenter.settings
    kept = probabilities.max(axis=0, initial=0) >= settings.denoising
    probabilities[:, ~kept] = 0
    best = probabilities.argmax(axis=1)
    sure = probabilities.max(axis=1, initial=0)
    return np.where((sure < settings.threshold) | (sure <= 0), NONE, best)


def labels_at(voxels: FeatureVoxels, found: np.ndarray, points: np.ndarray, neighbours: int) -> np.ndarray:
    """The class at each point V x 3: the most frequent of the nearest, the lowest of several; 0: of its own voxel."""
    if not len(voxels):
        return np.full(len(points), NONE)
    if not neighbours:
        own = voxels.index.find(pack(voxel_keys(points, voxels.size)))
        return np.where(own < 0, NONE, found[own])
    count = min(neighbours, len(voxels))
    near = found[cKDTree(voxels.centres).query(points, k=count)[1].reshape(len(points), count)]
    # No label comes before the first class, as in the published labels, where it is 0.
    order = np.where(near == NONE, 0, near + 1)
    votes = (order[:, :, None] == order[:, None, :]).sum(axis=2)
    chosen = np.argmax(votes * (NONE + 1) - order, axis=1)
    return near[np.arange(len(points)), chosen]


@dataclass
class Judged3d:
    """Voxels of the truth by true and found class, and how much of a sequence was used."""

    confusion: Confusion
    frames: int = 0
    voxels: int = 0
    problems: list[str] = field(default_factory=list)

    def result(self) -> dict[str, float]:
        """mIoU, fwIoU, mACC and pACC, over the classes that the truth has."""
        return self.confusion.result("detectron2")

    def as_json(self) -> dict[str, Any]:
        counts = {"frames": self.frames, "voxels": self.voxels, "problems": self.problems}
        return {**(self.result() if self.confusion.matrix.any() else {}), **counts}


def judge_sequence(
    segmenter: OpenVocabularySegmenter,
    sequence: RgbdSequence,
    truth: Truth,
    classes: Mapping[str, int],
    protocol: Protocol = Protocol(),
    say: Callable[[str], None] = lambda line: None,
) -> Judged3d:
    """Label a room and compare it with its truth. Raises InputError if no frame can be used.

    classes: numbers of the truth (ids // 1000) by labels, with synonyms as "couch, sofa"; others do not count.
    """
    labels, voxels = list(classes), FeatureVoxels(protocol.voxel_size)
    judged = Judged3d(Confusion(len(labels), ignore=NONE))
    keys = sequence.key_frames(protocol.every)
    for place, key in enumerate(keys, 1):
        try:
            frame = sequence.read(key)
        except BadFrame as error:
            judged.problems.append(str(error))
            continue
        voxels.add(frame, map_of(segmenter, frame, labels))
        judged.frames += 1
        say(f"frame {key.number} ({place} of {len(keys)}): {len(voxels):,} voxels")
    if not judged.frames:
        raise InputError(f"{sequence.folder}: none of {len(keys)} frames can be used; the first: {judged.problems[0]}")
    judged.voxels = len(voxels)
    found = label_voxels(segmenter, voxels.means, labels)
    cells = truth_of(pack(voxel_keys(truth.points, voxels.size)), truth.ids, voxels.size, 1)
    numbers = {number: index for index, number in enumerate(classes.values())}
    true = np.array([numbers.get(int(one), NONE) for one in cells.ids // 1000])
    judged.confusion.add(labels_at(voxels, found, cells.points, protocol.neighbours), true)
    return judged


def table(judged: Mapping[str, Judged3d], classes: Mapping[str, int]) -> tuple[str, Confusion]:
    """Lines for each sequence, for all together and for each class; and the confusion of all."""
    total = Confusion(len(classes), ignore=NONE)
    lines = ["| sequence | mIoU | fwIoU | voxels right | frames |", "|---|---|---|---|---|"]
    for name, one in judged.items():
        total.merge(one.confusion)
        lines.append(_row(name, one.confusion, one.frames))
    if len(judged) > 1:
        lines.append(_row("all", total, sum(one.frames for one in judged.values())))
    lines += ["", "| class | IoU |", "|---|---|"]
    lines += [
        f"| {name} | {'absent' if np.isnan(value) else f'{value:.4f}'} |"
        for name, value in zip(classes, total.iou("detectron2"), strict=True)
    ]
    return "\n".join(lines) + "\n", total


def _row(name: str, confusion: Confusion, frames: int) -> str:
    numbers = confusion.result("detectron2")
    return f"| {name} | {numbers['mIoU']:.4f} | {numbers['fwIoU']:.4f} | {numbers['pACC']:.4f} | {frames} |"
