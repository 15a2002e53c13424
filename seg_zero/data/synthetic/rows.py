"""Synthetic scenes as dataset rows: the splits that the embedded models and the demo use."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from seg_zero.answer import write_solution_multi
from seg_zero.data.rows import Row, write_rows
from seg_zero.data.synthetic.hops import HOP_SETS, Chain
from seg_zero.data.synthetic.scenes import KINDS, Question, Sample, Scene, make_samples
from seg_zero.errors import InputError, counted
from seg_zero.images import encode_png
from seg_zero.masks import encode_mask

# One seed per use, so that no picture is in two of them.
WARM_UP_SEED, TRAIN_SEED, HELD_OUT_SEED = 1, 2, 3
SEEDS = {"warm_up": WARM_UP_SEED, "train": TRAIN_SEED, "held_out": HELD_OUT_SEED}


def sample_to_row(sample: Sample, name: str) -> Row:
    """A scene and its question as a row with the multi-object solution and the exact mask."""
    targets = [sample.scene.objects[i].prompt for i in sample.question.targets]
    return Row(
        id=name,
        problem=sample.question.text,
        solution=write_solution_multi(targets),
        image_bytes=encode_png(sample.scene.image),
        img_height=sample.scene.image.height,
        img_width=sample.scene.image.width,
        mask=encode_mask(sample.mask),
        kind=sample.question.kind,
    )


def write_split(path: Path | str, seed: int, count: int, side: int = 112, kinds: Sequence[str] = KINDS) -> int:
    """Write ``count`` rows of the split ``seed`` to a parquet file; returns their number."""
    samples = make_samples(seed, count, side, kinds)
    return write_rows(path, (sample_to_row(s, f"synthetic-{seed}-{i:06d}") for i, s in enumerate(samples)))


def write_hops(path: Path | str, seed: int, count: int, sets: Sequence[str], side: int = 112) -> int:
    """Write ``count`` questions that take several hops, the sets (:data:`HOP_SETS`) in turn; returns their number."""
    from seg_zero.data.synthetic.shortcuts import draw_one  # takes scipy

    def rows() -> Iterator[Row]:
        for index in range(count):
            wanted = HOP_SETS[sets[index % len(sets)]]
            scene, chain = draw_one(seed, index, wanted, side)
            question = Question(f"hops-{wanted.name}", chain.text, (chain.target,))
            yield sample_to_row(Sample(scene, question), f"hops-{seed}-{index:06d}")

    return write_rows(path, rows())


def hop_question(name: str, kind: str, side: int) -> tuple[Scene, Chain]:
    """Scene and steps of a row that :func:`write_hops` wrote, from its id, its kind and the side of its image.

    InputError for any other row.
    """
    from seg_zero.data.synthetic.shortcuts import draw_one  # takes scipy

    found = re.fullmatch(r"hops-(\d+)-(\d+)", name)
    wanted = HOP_SETS.get(kind.removeprefix("hops-"))
    if found is None or wanted is None or not kind.startswith("hops-"):
        raise InputError(
            f"row {name!r} of kind {kind!r} is no question of several hops; seg-zero data synthetic --hops writes some"
        )
    return draw_one(int(found[1]), int(found[2]), wanted, side)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", required=True, help="parquet file to write")
    parser.add_argument("--split", choices=tuple(SEEDS), default="train", help="which scenes")
    parser.add_argument("--count", type=int, default=600, help="questions")
    parser.add_argument(
        "--hops",
        nargs="+",
        choices=tuple(HOP_SETS),
        metavar="SET",
        help="questions that take several steps instead: 1, 2, 3 or 4 hops, or 2-new, whose pairs of steps the other "
        "sets lack; several sets take turns",
    )
    parser.add_argument("--side", type=int, default=112, help="image side in pixels")


def run(args: argparse.Namespace) -> int:
    """The command ``seg-zero data synthetic``."""
    if args.count < 1:
        raise InputError(f"--count {args.count}: a dataset needs at least one row")
    if args.hops:
        written = write_hops(args.out, SEEDS[args.split], args.count, args.hops, args.side)
    else:
        written = write_split(args.out, SEEDS[args.split], args.count, args.side)
    print(f"{counted(written, 'row')} of split {args.split} written to {args.out}")
    return 0
