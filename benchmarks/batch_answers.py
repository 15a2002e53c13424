"""Whether greedy answers depend on the batch size, in float32 and in bfloat16.

    python benchmarks/batch_answers.py                                    # embedded models, 120 questions
    python benchmarks/batch_answers.py --device cuda --questions 300 --batch_sizes 1 8 32

Held-out synthetic questions through transformers and SAM2, which decodes the same questions together whatever the batch
size of the policy. Columns: texts that differ from those of the first batch size in this precision, IoUs that differ by
more than 0.001, mean IoU, and answers a second of the policy alone.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np

from seg_zero.data.synthetic.scenes import Sample, make_samples
from seg_zero.devices import DTYPES, choose_device
from seg_zero.errors import run_command
from seg_zero.metrics import count_pixels, iou_of
from seg_zero.policy import TransformersPolicy
from seg_zero.policy.loading import quiet_transformers
from seg_zero.prompting import PromptSpec, read_objects
from seg_zero.segmenter import Embedding, Segmenter, load_segmenter

SEED = 3  # of seg_zero.data.synthetic.rows for what no model has seen
NEW_TOKENS = 96
SAME_IOU = 1e-3
GROUP = 16  # questions that SAM2 decodes together


def ious_of(
    texts: Sequence[str], samples: Sequence[Sample], embeddings: Sequence[Embedding], sam2: Segmenter, spec: PromptSpec
) -> np.ndarray:
    """The IoU of each answer, whose objects count together."""
    objects = [
        read_objects(text, spec, sample.scene.image.size)[1] for text, sample in zip(texts, samples, strict=True)
    ]
    ious = []
    for start in range(0, len(samples), GROUP):
        own = slice(start, start + GROUP)
        found = sam2.segment_all(embeddings[own], objects[own])
        for segmentation, sample in zip(found, samples[own], strict=True):
            counts = count_pixels(segmentation.union, sample.mask)
            ious.append(iou_of(counts.intersection, counts.union))
    return np.array(ious)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", help="folder (default: the embedded one)")
    parser.add_argument("--questions", type=int, default=120)
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=["float32", "bfloat16"])
    parser.add_argument("--device", help="(default: cuda if there is one)")
    args = parser.parse_args(argv)
    quiet_transformers()
    device = choose_device(args.device)
    samples = list(make_samples(SEED, args.questions))
    images = [sample.scene.image for sample in samples]
    questions = [sample.question.text for sample in samples]
    sam2 = load_segmenter(device=device)
    embeddings = [one for start in range(0, len(images), GROUP) for one in sam2.embed(images[start : start + GROUP])]
    print(f"{args.questions} questions on {device}")
    print(f"{'precision':<10}{'batch':>6}{'texts':>8}{'IoUs':>6}{'gIoU':>9}{'answers/s':>11}")
    for dtype in args.dtypes:
        policy = TransformersPolicy.from_pretrained(args.policy, device=device, dtype=dtype, max_new_tokens=NEW_TOKENS)
        policy.generate(images[:GROUP], questions[:GROUP])  # the first run of everything is slower
        first: tuple[list[str], np.ndarray] | None = None
        for size in args.batch_sizes:
            policy.in_flight = size
            begun = time.perf_counter()
            texts = policy.generate(images, questions)
            seconds = time.perf_counter() - begun
            ious = ious_of(texts, samples, embeddings, sam2, policy.spec)
            first = first or (texts, ious)
            other = sum(one != two for one, two in zip(first[0], texts, strict=True))
            moved = int((np.abs(first[1] - ious) > SAME_IOU).sum())
            line = f"{dtype:<10}{size:>6}{other:>8}{moved:>6}"
            print(f"{line}{ious.mean():>9.4f}{len(texts) / seconds:>11.1f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
