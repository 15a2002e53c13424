"""The study's rows: a training set with omissions, and held-out questions near to it and far from it.

Omitted are five pairs of colour and shape (no training scene shows one), the relations "above" and "below",
scenes of more than five shapes, and questions that speak of such things. The embedded policy has met all but the
crowded scenes in its warm-up; the training after it has not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count, islice
from pathlib import Path

import numpy as np

from seg_zero.data.rows import write_rows
from seg_zero.data.synthetic.rows import TRAIN_SEED, sample_to_row
from seg_zero.data.synthetic.scenes import KINDS, Sample, Scene, make_sample, make_scene, questions_of

NEW_PAIRS = frozenset(
    {("red", "cross"), ("green", "diamond"), ("blue", "triangle"), ("yellow", "circle"), ("purple", "square")}
)
NEW_RELATIONS = ("above", "below")
FAR_KINDS = ("new pair", "more objects", "new relation")
NEAR_SEED, FAR_SEED = 31, 32
NEAR_ROWS, FAR_ROWS = 240, 180


def _has_new_pair(scene: Scene) -> bool:
    return any((item.colour, item.shape) in NEW_PAIRS for item in scene.objects)


def _has_new_words(text: str) -> bool:
    words = text.split()
    return any(word in words for word in NEW_RELATIONS) or any(
        f"{colour} {shape}" in text for colour, shape in NEW_PAIRS
    )


def near_samples(seed: int) -> Iterator[Sample]:
    """Samples without end of the kind that is trained on; the kinds of question take turns."""
    taken = 0
    for index in count():
        kind = KINDS[taken % len(KINDS)]
        sample = make_sample(seed, index, kinds=[kind])
        if not _has_new_pair(sample.scene) and not _has_new_words(sample.question.text):
            taken += 1
            yield sample


def _far_sample(seed: int, index: int) -> tuple[str, Sample]:
    """Sample ``index`` of what is not trained on, and which of FAR_KINDS it is."""
    name = FAR_KINDS[index % len(FAR_KINDS)]
    rng = np.random.default_rng((seed, index))
    while True:
        scene = make_scene(rng, shapes=int(rng.integers(6, 9)) if name == "more objects" else None)
        if name == "more objects" and (len(scene.objects) < 6 or _has_new_pair(scene)):
            continue
        kinds = {"new pair": ("attr", "size", "pos"), "more objects": KINDS, "new relation": ("rel",)}[name]
        questions = [
            q for kind in kinds for q in questions_of(scene, kind) if _asks_for(name, scene, q.text, q.targets)
        ]
        if questions:
            return name, Sample(scene, questions[int(rng.integers(len(questions)))])


def _asks_for(name: str, scene: Scene, text: str, targets: tuple[int, ...]) -> bool:
    if name == "new pair":
        return all((scene.objects[i].colour, scene.objects[i].shape) in NEW_PAIRS for i in targets)
    if name == "new relation":
        return any(word in text.split() for word in NEW_RELATIONS) and not _has_new_pair(scene)
    return not _has_new_words(text)


def training_samples(rows: int) -> list[Sample]:
    return list(islice(near_samples(TRAIN_SEED), rows))


def write_splits(folder: Path, training_rows: int) -> None:
    """``train.parquet``, ``near.parquet`` and ``far.parquet``; what is there already stays."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "train.parquet").exists():
        samples = training_samples(training_rows)
        write_rows(folder / "train.parquet", (sample_to_row(s, f"train-{i:05d}") for i, s in enumerate(samples)))
    if not (folder / "near.parquet").exists():
        near = islice(near_samples(NEAR_SEED), NEAR_ROWS)
        write_rows(folder / "near.parquet", (sample_to_row(s, f"near-{i:05d}") for i, s in enumerate(near)))
    if not (folder / "far.parquet").exists():
        rows = []
        for index in range(FAR_ROWS):
            name, sample = _far_sample(FAR_SEED, index)
            row = sample_to_row(sample, f"far-{index:05d}")
            rows.append(replace(row, kind=name))
        write_rows(folder / "far.parquet", rows)
