"""What the parts of RSKT-Seg are worth on the synthetic aerial world: trained on one sensor, measured on the other.

    python benchmarks/remote_sensing_transfer.py --out outputs/transfer
    python benchmarks/remote_sensing_transfer.py --out outputs/transfer --variants full,no_dino --seeds 0 --minutes 8

full           RS-Fusion, four rotations, DINO and RemoteCLIP.
no_rotation    one direction.
no_dino        neither DINO's cost map nor its guides.
no_transfer    without RemoteCLIP's guides, as the paper's ablation of RS-Transfer.
cat_seg        CAT-Seg's aggregator in the place of RS-Fusion.

Each run trains recipe=tiny on the first sensor with the trained classes, and is measured on the second with all: as it
is, under other names, and rotated by 0, 90, 180 and 270 degrees. A seed is that of the training; the tiles are the
same. Finished runs are kept in --out and not made again, unfinished ones go on: repeat the command. With --minutes no
run is begun after these. The table shows means over seeds, with 95 % intervals (Student's t).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

from seg_zero.errors import InputError, run_command
from seg_zero.files import read_json, write_json, write_text
from seg_zero.models.tiny_aerial.measure import confusion_of, measure
from seg_zero.remote_sensing.data.aerial.tiles import AerialTiles, other_names
from seg_zero.remote_sensing.data.aerial.world import CLASSES, TRAINED
from seg_zero.remote_sensing.segmenter import RemoteSensingSegmenter
from seg_zero.remote_sensing.training.config import compose_settings
from seg_zero.remote_sensing.training.loop import train

VARIANTS: dict[str, tuple[str, ...]] = {
    "full": (),
    "no_rotation": ("model.rotate=false",),
    "no_dino": ("model.dino=null",),
    "no_transfer": ("model.remote=null",),
    "cat_seg": ("model.aggregator=cat_seg", "model.cat_seg.window=6", "model.cat_seg.pad_length=8"),
}
TURNS = (0, 1, 2, 3)
RESULT = "transfer.json"


def encoders(folder: str, variant: str) -> list[str]:
    """The files of a folder as settings; none for a source that the variant leaves out."""
    names = [name for name in ("clip", "remote", "dino") if f"model.{name}=null" not in VARIANTS[variant]]
    return [f"pretrained.{name}={Path(folder, f'{name}.safetensors')}" for name in names] if folder else []


def one_run(out: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """Train and measure, or read what was measured. Raises InputError for a run of other settings in its folder."""
    variant, seed, steps, size = asked["variant"], asked["seed"], asked["steps"], asked["size"]
    folder = out / f"{variant}_{seed}"
    if (folder / RESULT).is_file():
        kept: dict[str, Any] = read_json(folder / RESULT)
        if kept["asked"] != asked:
            raise InputError(f"{folder} holds a run with {kept['asked']}, not {asked}; give another --out")
        return kept
    settings, _ = compose_settings(
        [
            *("recipe=tiny", "data.train.folder=.", "data.validation=null", f"output_dir={folder}", f"seed={seed}"),
            *(f"schedule.steps={steps}", "schedule.save_every=50", "schedule.log_every=25", *VARIANTS[variant]),
            *encoders(asked["encoders"], variant),
        ]
    )
    train(
        settings,
        AerialTiles("plane", asked["tiles"], size=size, kept=TRAINED),
        None,
        lambda line: print(line, flush=True),
    )
    segmenter = RemoteSensingSegmenter.from_pretrained(folder, "cpu")
    unseen = AerialTiles("satellite", asked["evaluated"], size=size)
    renamed = AerialTiles("satellite", asked["evaluated"], size=size, names=other_names(CLASSES))
    turned = [confusion_of(segmenter, unseen, turns).result("detectron2")["mIoU"] for turns in TURNS]
    found = {
        "asked": asked,
        "transfer": measure(segmenter, unseen).plain(),
        "other_names": measure(segmenter, renamed).plain(),
        "turned": turned,
    }
    write_json(folder / RESULT, found)
    return found


def interval(values: Sequence[float]) -> str:
    """The mean with its 95 % interval by Student's t, where there are two values or more."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:.3f}"
    reach = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)
    return f"{mean:.3f} ± {reach:.3f}"


def tables(runs: Sequence[dict[str, Any]]) -> str:
    """The ablation, and mIoU of rotated tiles."""
    lines = [
        "| variant | seeds | mIoU | trained | unseen | chance of these | mIoU, other names |",
        "|---|" + "---|" * 6,
    ]
    turned = ["| variant | 0° | 90° | 180° | 270° | largest difference |", "|---|" + "---|" * 5]
    for variant in VARIANTS:
        own = [run for run in runs if run["asked"]["variant"] == variant]
        if not own:
            continue
        cells = [interval([run["transfer"][key] for run in own]) for key in ("mean", "trained", "unseen")]
        cells += [f"{own[0]['transfer']['chance']:.3f}", interval([run["other_names"]["mean"] for run in own])]
        lines.append(f"| {variant} | {len(own)} | {' | '.join(cells)} |")
        angles = [interval([run["turned"][turns] for run in own]) for turns in TURNS]
        spread = interval([max(run["turned"]) - min(run["turned"]) for run in own])
        turned.append(f"| {variant} | {' | '.join(angles)} | {spread} |")
    return "\n".join([*lines, "", *turned, ""])


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=Path, help="folder for runs and tables")
    parser.add_argument("--variants", default=",".join(VARIANTS), help="some of them, separated by commas")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument(
        "--encoders", default="", help="folder of seg_zero.models.tiny_aerial.train (default: the recipe's)"
    )
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--tiles", type=int, default=160, help="to train on")
    parser.add_argument("--evaluated", type=int, default=40, help="tiles to measure on")
    parser.add_argument("--size", type=int, default=96, help="side of a tile in pixels")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--minutes", type=float, help="begin no run after these")
    args = parser.parse_args(argv)
    variants, seeds = args.variants.split(","), [int(seed) for seed in args.seeds.split(",")]
    if unknown := [variant for variant in variants if variant not in VARIANTS]:
        raise InputError(f"--variants {unknown[0]!r} is unknown; choose from {', '.join(VARIANTS)}")
    torch.set_num_threads(args.threads)
    start, left = time.monotonic(), 0
    runs: list[dict[str, Any]] = []
    for seed in seeds:
        for variant in variants:
            done = (args.out / f"{variant}_{seed}" / RESULT).is_file()
            if not done and args.minutes is not None and time.monotonic() - start > 60 * args.minutes:
                left += 1
                continue
            asked = {name: getattr(args, name) for name in ("encoders", "steps", "tiles", "evaluated", "size")}
            runs.append(one_run(args.out, {"variant": variant, "seed": seed, **asked}))
            write_text(args.out / "tables.md", tables(runs))
            print(json.dumps({key: runs[-1][key] for key in ("asked", "turned")}), flush=True)
    print(tables(runs) if runs else "no run was begun")
    if left:
        print(f"runs left: {left}; repeat the command")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_command(main))
