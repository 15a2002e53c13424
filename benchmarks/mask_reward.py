"""SAM2 in the reward: 16 questions x 8 samples with shared embeddings, against one image and one object at a time.

    python benchmarks/mask_reward.py --segmentation_model tiny

The peer embeds the image for every sample and decodes object by object. Both masks must agree.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from seg_zero.data.augmentation import whole
from seg_zero.data.source import open_rows
from seg_zero.data.synthetic.rows import HELD_OUT_SEED, write_split
from seg_zero.metrics import intersection_union, iou_of
from seg_zero.objects import PromptObject
from seg_zero.segmenter import Segmenter, load_segmenter
from seg_zero.training.rollout.mask_scorer import MaskQuestion, MaskScorer

QUESTIONS, SAMPLES = 16, 8


def make_questions(path: str, rng: np.random.Generator) -> list[MaskQuestion]:
    """Answers off by a few pixels, in the order in which samples of a step may finish."""
    questions = []
    for number, row in enumerate(open_rows(path)):
        with row.image() as image:
            size = image.size
        for _ in range(SAMPLES):
            moved = []
            for item in row.objects():
                assert item.box is not None
                x1, y1, x2, y2 = (v + float(rng.integers(-4, 5)) for v in item.box)
                moved.append(PromptObject((x1, y1, x2, y2), item.points[:1]))
            questions.append(MaskQuestion(path, number, whole(size), size, tuple(moved)))
    return [questions[i] for i in rng.permutation(len(questions))]


def one_at_a_time(segmenter: Segmenter, questions: list[MaskQuestion]) -> list[float]:
    rows, ious = open_rows(questions[0].source), []
    for question in questions:
        row = rows[question.row]
        image, truth = row.image(), row.truth()
        assert truth is not None
        (embedding,) = segmenter.embed([image])
        union = np.zeros(truth.shape, dtype=bool)
        for item in question.stored_objects():
            union |= segmenter.segment_embedded(embedding, [item]).union
        ious.append(iou_of(*intersection_union(union, truth)))
    return ious


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segmentation_model", default="tiny")
    parser.add_argument("--side", type=int, default=112, help="of the images, in pixels")
    parser.add_argument("--device", help="(default: cuda if there is one)")
    args = parser.parse_args()
    segmenter = load_segmenter(args.segmentation_model, device=args.device)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "rows.parquet")
        write_split(path, HELD_OUT_SEED, QUESTIONS, args.side, kinds=("attr", "plural"))
        questions = make_questions(path, np.random.default_rng(0))
        MaskScorer(segmenter, 1).scores(questions[:8])  # warm-up
        start = time.perf_counter()
        ours = MaskScorer(segmenter, QUESTIONS).scores(questions)
        shared = time.perf_counter() - start
        start = time.perf_counter()
        peer = one_at_a_time(segmenter, questions)
        single = time.perf_counter() - start
    differences = [abs(a.iou - b) for a, b in zip(ours, peer, strict=True) if a.iou is not None]
    assert len(differences) == len(peer) and max(differences) < 0.02, max(differences)
    print(f"{len(questions)} samples of {QUESTIONS} questions, {args.side} x {args.side} pixels, on {segmenter.device}")
    print(f"shared {shared:.2f} s, one at a time {single:.2f} s, ratio {single / shared:.1f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
