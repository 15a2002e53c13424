"""One run of the study: train with a setting and a seed, then answer held-out rows; the result is one small file."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.kept_runs import Result, kept_run
from benchmarks.learning import supervised
from benchmarks.learning.splits import training_samples, write_splits
from seg_zero.command_line import quoted
from seg_zero.data.source import RowSource, open_rows
from seg_zero.evaluation.predictions import Prediction
from seg_zero.evaluation.run import Models, evaluate
from seg_zero.evaluation.store import read_predictions
from seg_zero.export.merge import merge
from seg_zero.metrics import count_pixels, iou_of
from seg_zero.objects import PromptObject
from seg_zero.segmenter import Segmenter, load_segmenter
from seg_zero.training.trainer.metrics_log import read_metrics

ROOT = Path(__file__).resolve().parents[2]
PROMPTS_PER_STEP = 16
SPLITS = ("near", "far")
PROMPTS = ("both", "box", "point")  # of an object, what SAM2 is given


@dataclass(frozen=True)
class Setting:
    """A way to train. ``overrides`` are Hydra's of a GRPO run, ``supervised`` the options of the supervised peer.

    study: the question that it belongs to; prompt: what SAM2 is given when this setting is judged.
    """

    name: str
    study: str
    overrides: tuple[str, ...] = ()
    supervised: dict[str, Any] | None = None
    prompt: str = "both"


def _weights(**weights: float) -> tuple[str, ...]:
    return tuple(f"reward.terms.{term}.weight={weight}" for term, weight in weights.items())


START = Setting("start", "start")
DEFAULT = Setting("default", "default")
SETTINGS = (
    START,
    DEFAULT,
    *(
        Setting(
            f"supervised, {'reasoning' if reasoned else 'answers'}, {passes} pass{'es' if passes > 1 else ''}",
            "supervised",
            supervised={"rate": 1e-4, "reasoned": reasoned, "passes": passes},
        )
        for reasoned in (False, True)
        for passes in (1, 8)
    ),
    Setting("n = 4", "samples", ("worker.rollout.n=4",)),
    Setting("n = 16", "samples", ("worker.rollout.n=16",)),
    Setting("hard", "reward", _weights(iou=2.5, iou_soft=0)),
    Setting(
        "soft", "reward",
        (*_weights(iou=0, iou_soft=2.5), "reward.terms.box_l1.zero_at=100", "reward.terms.point.zero_at=200"),
    ),
    Setting("mask", "reward", (*_weights(iou=0, iou_soft=0, box_l1=0, mask=5), "reward.terms.mask.tiers=null")),
    Setting("no KL", "kl", ("worker.actor.use_kl_loss=false",)),
    Setting("KL 0.05", "kl", ("worker.actor.kl_loss_coef=0.05",)),
    Setting("box only", "prompt", _weights(point=0), prompt="box"),
    Setting("points only", "prompt", _weights(iou=0, iou_soft=0, box_l1=0), prompt="point"),
)  # fmt: skip


def without_validation(seed: int, steps: int, out: Path) -> tuple[str, ...]:
    """Overrides of a run of so many steps into ``out``/train that saves its last one and validates nothing."""
    return (
        f"data.seed={seed}",
        f"trainer.total_training_steps={steps}",
        f"trainer.save_freq={steps}",
        "trainer.test_freq=-1",
        "trainer.val_before_train=false",
        f"output_dir={quoted(out / 'train')}",
    )


def train_grpo(train: Path, held_out: Path, out: Path, seed: int, steps: int, overrides: Sequence[str] = ()) -> Path:
    """Train on rows with the launch script; returns the merged policy, ``out``/policy."""
    command = [
        "bash",
        str(ROOT / "training_scripts" / "run_tiny_cpu.sh"),
        f"data.train_files={quoted(train)}",
        f"data.val_files={quoted(held_out)}",
        f"data.train_batch_size={PROMPTS_PER_STEP}",
        *without_validation(seed, steps, out),
        *overrides,
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return merge(out / "train" / "checkpoints" / f"global_step_{steps}", out / "policy")


def rescored(predictions: Sequence[Prediction], rows: RowSource, segmenter: Segmenter, prompt: str) -> list[float]:
    """IoU of each row's mask when SAM2 is given only the box, or only the points, of what the policy wrote."""
    ious = []
    for prediction in predictions:
        if prediction.unusable:
            ious.append(0.0)
            continue
        row = rows[prediction.row]
        items = []
        for found in prediction.objects[prediction.chosen]:
            whole = PromptObject(found["box"] and tuple(found["box"]), tuple(tuple(p) for p in found["points"]))
            items.append(replace(whole, points=()) if prompt == "box" else replace(whole, box=None))
        counts = count_pixels(segmenter.segment(row.image(), items).union, row.truth())
        ious.append(iou_of(counts.intersection, counts.union))
    return ious


def _judge(policy: str | None, rows: Path, out: Path) -> dict[str, Any]:
    """Numbers of a policy on both splits; ``iou`` has a list for each of PROMPTS, in the order of the rows."""
    segmenter = load_segmenter()
    found: dict[str, Any] = {}
    for split in SPLITS:
        source = open_rows(rows / f"{split}.parquet")
        folder = out / f"evaluation_{split}"
        evaluate(Models(policy=policy, max_new_tokens=96), source, folder)
        predictions = read_predictions(folder)
        empty = [p for p in predictions if p.no_target]
        found[split] = {
            "iou": {"both": [p.iou for p in predictions]}
            | {prompt: rescored(predictions, source, segmenter, prompt) for prompt in PROMPTS[1:]},
            "box_hit": [float(p.box_iou > 0.5) for p in predictions],
            "kind": [p.kind for p in predictions],
            "rightly_empty": [float(not p.unusable and p.named == 0) for p in empty],
            "well_formed": float(np.mean([p.well_formed for p in predictions])),
            "tokens": float(np.mean([p.tokens for p in predictions])),
        }
    return found


def _train(setting: Setting, seed: int, rows: Path, out: Path, steps: int) -> tuple[str | None, dict[str, list[float]]]:
    """The trained policy, None for the embedded one, and its curves by step."""
    if setting is START:
        return None, {}
    if setting.supervised is not None:
        samples = training_samples(steps * PROMPTS_PER_STEP)
        losses = supervised.train(samples, out / "policy", seed=seed, steps=steps, **setting.supervised)
        return str(out / "policy"), {"loss": losses}
    policy = train_grpo(rows / "train.parquet", rows / "near.parquet", out, seed, steps, setting.overrides)
    lines = read_metrics(out / "train" / "metrics.jsonl")
    names = ("reward/box_iou/mean", "actor/entropy", "actor/kl_loss", "response_length/mean", "timing_s/step")
    return str(policy), {name: [line[name] for line in lines] for name in names if name in lines[0]}


def run(setting: Setting, seed: int, folder: Path, steps: int) -> Result:
    """The result of a run; read from its file if it was made before. Models and checkpoints are not kept."""
    rows, out = folder / "rows", folder / re.sub(r"\W+", "_", f"{setting.name} {seed}")

    def make() -> Result:
        write_splits(rows, steps * PROMPTS_PER_STEP)
        start = time.perf_counter()
        policy, curves = _train(setting, seed, rows, out, steps)
        seconds = time.perf_counter() - start
        judged = _judge(policy, rows, out)
        return {"setting": setting.name, "seed": seed, "seconds": seconds, "curves": curves, **judged}

    return kept_run(out, make, ("train/checkpoints", "policy"))
