"""Rows per second of an evaluation, against the straightforward way, in the same run on the same rows.

    python benchmarks/evaluation.py                        # embedded models, 300 questions about 300 scenes
    python benchmarks/evaluation.py --questions 4          # four questions about each scene
    python benchmarks/evaluation.py --rows 3000 --memory   # only how memory goes over one long evaluation

The straightforward way: transformers' generate in padded batches of 8, and then SAM2's image encoder and decoder for
one question at a time. Ours: the same rows through seg_zero.evaluation with each engine. Start-up is not counted; masks
must be the same.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import psutil

from seg_zero.data.rows import Row
from seg_zero.data.source import RowSource, open_rows
from seg_zero.data.synthetic.rows import HELD_OUT_SEED, write_split
from seg_zero.evaluation.answering import answer_rows
from seg_zero.metrics import count_pixels, iou_of
from seg_zero.policy import Policy, TransformersPolicy, VllmPolicy
from seg_zero.policy.loading import quiet_transformers
from seg_zero.prompting import read_objects
from seg_zero.segmenter import Segmenter, load_segmenter

PEER_BATCH = 8
NEW_TOKENS = 96


def straightforward(policy: TransformersPolicy, segmenter: Segmenter, rows: list[Row]) -> list[float]:
    """IoUs, written as most evaluation scripts are."""
    policy.in_flight = PEER_BATCH
    ious = []
    for first in range(0, len(rows), PEER_BATCH):
        batch = rows[first : first + PEER_BATCH]
        texts = policy.generate([row.image() for row in batch], [row.problem for row in batch])
        for row, text in zip(batch, texts, strict=True):
            image, truth = row.image(), row.truth()
            assert truth is not None
            union = np.zeros(truth.shape, dtype=bool)
            for item in read_objects(text, policy.spec, image.size)[1]:
                union |= segmenter.segment(image, [item]).union
            counts = count_pixels(union, truth)
            ious.append(iou_of(counts.intersection, counts.union))
    return ious


def ours(policy: Policy, segmenter: Segmenter, rows: RowSource | list[Row]) -> list[float]:
    found = sorted(answer_rows(policy, segmenter, rows, range(len(rows))), key=lambda prediction: prediction.row)
    return [prediction.iou for prediction in found]


def memory_mib() -> float:
    process = psutil.Process()
    return sum(one.memory_info().rss for one in (process, *process.children(recursive=True))) / 2**20


def memory_curve(rows: RowSource) -> None:
    """Print resident memory every tenth of one evaluation with transformers."""
    policy, segmenter = (
        TransformersPolicy.from_pretrained(max_new_tokens=NEW_TOKENS, batch_size=32),
        load_segmenter(),
    )
    for done, _ in enumerate(answer_rows(policy, segmenter, rows, range(len(rows))), start=1):
        if done % (len(rows) // 10) == 0:
            print(f"{done} rows: {memory_mib():.0f} MiB", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--questions", type=int, default=1, help="rows that share an image")
    parser.add_argument("--rounds", type=int, default=3, help="the best of this many counts")
    parser.add_argument("--memory", action="store_true", help="the memory of one evaluation in place of the comparison")
    args = parser.parse_args()
    quiet_transformers()
    path = Path(tempfile.mkdtemp()) / "rows.parquet"
    write_split(path, HELD_OUT_SEED, -(-args.rows // args.questions))
    if args.memory:
        memory_curve(open_rows(path))
        return 0
    rows = [replace(row, id=f"{row.id}-{i}") for row in open_rows(path) for i in range(args.questions)][: args.rows]

    segmenter = load_segmenter()
    small = TransformersPolicy.from_pretrained(max_new_tokens=NEW_TOKENS)
    large = TransformersPolicy.from_pretrained(max_new_tokens=NEW_TOKENS, batch_size=32)
    vllm = VllmPolicy.from_pretrained(max_new_tokens=NEW_TOKENS)
    ways = {
        "straightforward": lambda: straightforward(small, segmenter, rows),
        "ours, transformers": lambda: ours(large, segmenter, rows),
        "ours, vllm": lambda: ours(vllm, segmenter, rows),
    }
    best: dict[str, float] = {}
    results: dict[str, list[float]] = {}
    memory = []
    for _ in range(args.rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            results[name] = way()
            best[name] = min(best.get(name, 1e9), time.perf_counter() - start)
        memory.append(memory_mib())
    peer = best["straightforward"]
    print(f"{'way':<22}{'s':>7}{'rows/s':>9}{'ratio':>7}   gIoU")
    for name, seconds in best.items():
        giou = np.mean(results[name])
        print(f"{name:<22}{seconds:>7.1f}{len(rows) / seconds:>9.1f}{peer / seconds:>7.2f}   {giou:.6f}")
    print("memory after each round, MiB: " + ", ".join(f"{value:.0f}" for value in memory))
    same = all(np.allclose(found, results["straightforward"], atol=1e-3) for found in results.values())
    print(f"the same IoUs in all ways: {'yes' if same else 'NO'}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
